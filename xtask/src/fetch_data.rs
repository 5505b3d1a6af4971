//! `cargo xtask fetch-data`: downloads, verifies and unpacks the photographs of ants and bees.
//!
//! [`fetch()`] downloads and unpacks in the staging directory `.NAME.fetch` next to the destination,
//! and renames the result at the end. Even an interrupted run therefore never leaves a partly
//! unpacked destination. A partial download stays in the staging directory, and the next run
//! resumes it.

mod manifest;
mod unpack;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fetch::http::Uri;
use fetch::{Client, Config, Download, Event};
use indicatif::{ProgressBar, ProgressStyle};

pub use manifest::{Check, Manifest};
pub use unpack::Limits;

use crate::root;

/// The archive of PyTorch's transfer learning tutorial.
pub const HYMENOPTERA_URL: &str = "https://download.pytorch.org/tutorial/hymenoptera_data.zip";

/// SHA-256 of each photograph, in the format of `sha256sum`.
pub const HYMENOPTERA_MANIFEST: &str = include_str!("../hymenoptera_data.sha256");

const HELP: &str = "help: pass a local copy or a mirror with --from FILE|URL, or train on the built-in sample, which needs no download";

/// Maximum number of files that a message lists.
const MAX_LISTED: usize = 20;

/// Fetches the photographs to `data`, by default `data/hymenoptera_data` in the project, and prints
/// the result.
///
/// # Errors
///
/// Returns the errors of [`Source::parse`] and [`fetch()`], and an error if `data` is an empty path.
pub fn run(from: &str, data: Option<PathBuf>, force: bool) -> Result<()> {
    let start = Instant::now();
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST)?;
    let files = manifest.len();
    let target = match data {
        Some(folder) => std::path::absolute(&folder)
            .with_context(|| format!("cannot use `{}` as --data", folder.display()))?,
        None => root().join("data").join(manifest.name()),
    };
    let mut options = Options::new(Source::parse(from)?, manifest, target);
    options.force = force;
    options.progress = ProgressBar::no_length().with_style(ProgressStyle::with_template(
        "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
    )?);
    let outcome = fetch(&options);
    options.progress.finish_and_clear();
    let current = std::env::current_dir().unwrap_or_default();
    let shown = options.target.strip_prefix(&current);
    let shown = shown.unwrap_or(&options.target).display();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    match outcome? {
        Outcome::UpToDate(check) => {
            println!(
                "{shown} is complete: {files} files ({:.1} MB), all checksums match",
                megabytes(check.bytes)
            );
            for file in check.extra {
                println!("  ignored {file}");
            }
        }
        Outcome::Fetched { bytes } => println!(
            "{shown} is complete: downloaded {files} files ({:.1} MB) in {:.1} s, all checksums match",
            megabytes(bytes),
            start.elapsed().as_secs_f64()
        ),
    }
    Ok(())
}

/// Location of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A local file.
    File(PathBuf),
    /// An HTTP or HTTPS URL.
    Url(Uri),
}

impl Source {
    /// Parses a URL or a path. Everything without `://` is a path.
    ///
    /// # Errors
    ///
    /// Returns an error for invalid URLs and for schemes other than http and https.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(if text.contains("://") {
            Self::Url(fetch::parse_url(text)?)
        } else {
            Self::File(text.into())
        })
    }
}

/// Options of [`fetch()`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Location of the archive.
    pub source: Source,
    /// Files that the archive must contain.
    pub manifest: Manifest,
    /// Destination directory.
    pub target: PathBuf,
    /// Fetch even if the destination is complete.
    pub force: bool,
    /// Size limits of the archive.
    pub limits: Limits,
    /// Progress bar of the download.
    pub progress: ProgressBar,
}

impl Options {
    /// Options with default limits, without a progress bar.
    pub fn new(source: Source, manifest: Manifest, target: PathBuf) -> Self {
        Self {
            source,
            manifest,
            target,
            force: false,
            limits: Limits::default(),
            progress: ProgressBar::hidden(),
        }
    }
}

/// Result of [`fetch()`].
#[derive(Debug)]
pub enum Outcome {
    /// The destination was already complete.
    UpToDate(Check),
    /// The destination was created or replaced.
    Fetched {
        /// Total size of the files in bytes.
        bytes: u64,
    },
}

/// Creates or replaces the destination, unless it is complete. Prints a line to standard error when
/// a download starts, fails or is repeated.
///
/// # Errors
///
/// Returns an error if the download fails, if the archive is missing, invalid, unsafe, over a limit
/// or different from the manifest, if another process is fetching to the same destination, or if the
/// destination is a file, or has to be replaced but contains unlisted files. The destination is then
/// unchanged. An error of the file system can also occur after the old destination is removed.
pub fn fetch(options: &Options) -> Result<Outcome> {
    let Options {
        manifest, target, ..
    } = options;
    let check = manifest.check(target)?;
    if check.problems.is_empty() && !options.force {
        return Ok(Outcome::UpToDate(check));
    }
    ensure!(
        target.is_dir() || !target.exists(),
        "{} is not a directory",
        target.display()
    );
    ensure!(
        check.extra.is_empty(),
        "cannot replace {}: it contains other files{}\nhelp: move them, or choose another directory with --data",
        target.display(),
        list(&check.extra)
    );
    if let Source::File(archive) = &options.source {
        ensure!(
            archive.is_file(),
            "cannot find {}\nhelp: --from takes the path of the zip archive, or a URL with http:// or https://",
            archive.display()
        );
    }

    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let staging = target.with_file_name(format!(".{name}.fetch"));
    fs::create_dir_all(&staging).with_context(|| format!("cannot create {}", staging.display()))?;
    let lock_file = staging.join("lock");
    let lock = lock(&lock_file, target)?;
    let unpacked = staging.join("unpacked");
    let result = match &options.source {
        Source::File(archive) => unpack_clean(options, archive, &archive.display(), &unpacked),
        Source::Url(url) => download_and_unpack(options, url, &staging, &unpacked),
    };
    let result = result.and_then(|bytes| replace(&unpacked, target).map(|()| bytes));
    drop(lock);
    // Errors of the cleanup are ignored in favor of the result.
    match result {
        Ok(bytes) => {
            let _ = fs::remove_dir_all(&staging);
            Ok(Outcome::Fetched { bytes })
        }
        Err(error) => {
            // The staging directory is removed only if it contains no download.
            let _ = fs::remove_dir_all(&unpacked);
            let _ = fs::remove_file(lock_file);
            let _ = fs::remove_dir(&staging);
            Err(if error.is::<io::Error>() {
                error
            } else {
                anyhow!("{error:#}\n{HELP}")
            })
        }
    }
}

/// Locks a file until the returned handle is closed. Fails if another process has locked it.
fn lock(path: &Path, target: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another fetch-data is running for {}", target.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Replaces `target`, which has no unlisted files, with the complete data set in `new`.
fn replace(new: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        remove_dir(target)?;
    }
    fs::rename(new, target).with_context(|| format!("cannot create {}", target.display()))
}

fn remove_dir(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Downloads and unpacks. An archive that is invalid or differs from the manifest is removed and
/// downloaded once more, because a resumed download may consist of two versions.
fn download_and_unpack(
    options: &Options,
    url: &Uri,
    staging: &Path,
    unpacked: &Path,
) -> Result<u64> {
    // The name depends on the URL, so that only a download of the same file is resumed.
    let name = fetch::sha256(&mut url.to_string().as_bytes())?;
    let archive = staging.join(format!("{}.zip", &name[..16]));
    let client = Client::new(&Config {
        user_agent: concat!("waggle-xtask/", env!("CARGO_PKG_VERSION")).into(),
        ..Config::default()
    });
    let download = Download {
        url,
        path: &archive,
        size: None,
        max_size: options.limits.archive_bytes,
        checksum: None,
    };
    let shown = fetch::redacted(url);
    let print = |line: &str| options.progress.suspend(|| eprintln!("{line}"));
    let mut may_repeat = true;
    loop {
        print(&format!("downloading {shown}"));
        client.download(&download, &mut |event| match event {
            Event::Progress { received, size } => {
                let is_first = options.progress.position() == 0;
                if let Some(size) = size {
                    options.progress.set_length(size);
                }
                options.progress.set_position(received);
                if is_first {
                    // Bytes of an earlier run do not count for the speed.
                    options.progress.reset_eta();
                }
            }
            Event::Retry { error, pause } => {
                let seconds = pause.as_secs_f64();
                print(&format!("{error}; retrying in {seconds:.1} s"));
            }
            _ => {}
        })?;
        match unpack_clean(options, &archive, &shown, unpacked) {
            Err(error) if !error.is::<io::Error>() => {
                fs::remove_file(&archive)
                    .with_context(|| format!("cannot remove {}", archive.display()))?;
                if !may_repeat {
                    return Err(error);
                }
                may_repeat = false;
                print(&format!("{error:#}"));
            }
            result => return result,
        }
    }
}

/// Unpacks into an empty directory, after removing the files of an interrupted run.
fn unpack_clean(
    options: &Options,
    archive: &Path,
    origin: &dyn std::fmt::Display,
    unpacked: &Path,
) -> Result<u64> {
    if unpacked.exists() {
        remove_dir(unpacked)?;
    }
    unpack::unpack(archive, &options.manifest, &options.limits, unpacked)
        .with_context(|| format!("cannot unpack {origin}"))
}

/// Formats at most [`MAX_LISTED`] files as indented lines.
fn list(files: &[String]) -> String {
    let mut text: String = files
        .iter()
        .take(MAX_LISTED)
        .map(|file| format!("\n  {file}"))
        .collect();
    if files.len() > MAX_LISTED {
        text.push_str(&format!("\n  and {} more", files.len() - MAX_LISTED));
    }
    text
}
