//! `cargo xtask fetch-data`: downloads, verifies and unpacks the photographs of ants and bees.
//!
//! [`fetch()`] works in the staging directory `.NAME.fetch` next to the destination, and renames the
//! result at the end. Even an interrupted run therefore never leaves a partly unpacked destination.
//! A partial download stays in the staging directory, and the next run resumes it. A run waits while
//! another one fetches to the same destination. An archive that is invalid or differs from the
//! manifest is removed, because a resumed download may consist of parts of two versions.

mod manifest;
mod unpack;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use fetch::{Client, Config, Download, Event};
use indicatif::{ProgressBar, ProgressStyle};

pub use manifest::{Check, Manifest};

use crate::root;

/// The archive of PyTorch's transfer learning tutorial.
pub const HYMENOPTERA_URL: &str = "https://download.pytorch.org/tutorial/hymenoptera_data.zip";

/// SHA-256 of each photograph, in the format of `sha256sum`.
pub const HYMENOPTERA_MANIFEST: &str = include_str!("../hymenoptera_data.sha256");

/// Maximum size in bytes of the archive, and of all unpacked files together. The photographs need
/// 47 MB.
const MAX_SIZE: u64 = 64 << 20;

const HELP: &str = "help: pass a local copy or a mirror with --from FILE|URL, or train on the built-in sample, which needs no download";

/// Maximum number of files that a message lists.
const MAX_LISTED: usize = 20;

/// Fetches the photographs to `data`, by default `data/hymenoptera_data` in the project, and prints
/// the result.
///
/// # Errors
///
/// Returns the errors of [`fetch()`], and an error if `data` is an empty path.
pub fn run(from: &str, data: Option<PathBuf>) -> Result<()> {
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST)?;
    let target = match data {
        Some(folder) => std::path::absolute(&folder)
            .with_context(|| format!("cannot use `{}` as --data", folder.display()))?,
        None => root().join("data").join(manifest.name()),
    };
    let check = fetch(from, &manifest, &target, MAX_SIZE)?;
    println!(
        "{} is complete: {} files ({:.1} MB), all checksums match",
        target.display(),
        manifest.paths().count(),
        check.bytes as f64 / 1e6
    );
    for file in check.extra {
        println!("  ignored {file}");
    }
    Ok(())
}

/// Creates or replaces the directory `target`, unless it is complete. `from` is the path of a zip
/// archive, or its URL if it contains `://`. The archive and the unpacked files may have `max_size`
/// bytes each. Waits while another process fetches to the same destination. Prints a line to standard
/// error when it waits, and when a download starts and is retried.
///
/// # Errors
///
/// Returns an error if the download fails, if the archive is missing, invalid, unsafe, too large or
/// different from the manifest, if the destination is a file, or has to be replaced but contains
/// unlisted files, or if a file cannot be read or written. The destination is then unchanged, unless
/// it was moved to the staging directory and cannot be moved back.
pub fn fetch(from: &str, manifest: &Manifest, target: &Path, max_size: u64) -> Result<Check> {
    let _lock = lock(target)?;
    let check = manifest.check(target)?;
    if check.problems.is_empty() {
        return Ok(check);
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

    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let staging = target.with_file_name(format!(".{name}.fetch"));
    fs::create_dir_all(&staging).with_context(|| format!("cannot create {}", staging.display()))?;
    // The name depends on the URL, so that only a download of the same file is resumed.
    let name = fetch::sha256(&mut from.as_bytes())?;
    let downloaded = staging.join(format!("{}.zip", &name[..16]));
    let unpacked = staging.join("unpacked");
    let result = (|| {
        let archive = if from.contains("://") {
            download(from, &downloaded, max_size)?;
            &downloaded
        } else {
            ensure!(Path::new(from).is_file(), "cannot find {from}");
            Path::new(from)
        };
        remove_dir(&unpacked)?;
        let bytes = unpack::unpack(archive, manifest, max_size, &unpacked)
            .context("cannot unpack the archive")?;
        replace(&unpacked, target, &staging.join("replaced"))?;
        Ok(Check {
            bytes,
            ..Check::default()
        })
    })();
    // Errors of the cleanup are ignored in favor of the result.
    let Err(error) = result else {
        let _ = fs::remove_dir_all(&staging);
        return result;
    };
    let is_local = error.is::<io::Error>();
    if !is_local {
        let _ = fs::remove_file(downloaded);
    }
    let _ = fs::remove_dir_all(&unpacked);
    // The staging directory is kept if it still contains a download.
    let _ = fs::remove_dir(&staging);
    Err(if is_local {
        error
    } else {
        anyhow!("{error:#}\n{HELP}")
    })
}

/// Locks a destination until the returned file is dropped. The locked file is in the build folder,
/// because it must not be removed.
fn lock(target: &Path) -> Result<File> {
    let locks = root().join("target/fetch-data");
    fs::create_dir_all(&locks).with_context(|| format!("cannot create {}", locks.display()))?;
    let name = fetch::sha256(&mut target.as_os_str().as_encoded_bytes())?;
    let path = locks.join(format!("{}.lock", &name[..16]));
    let wait = || {
        let (path, target) = (path.display(), target.display());
        eprintln!("waiting for another process that fetches {target} and has locked {path}");
    };
    Ok(fetch::lock(&path, wait)?)
}

/// Downloads `url` to `path` and shows a progress bar.
fn download(url: &str, path: &Path, max_size: u64) -> Result<()> {
    let url = &fetch::parse_url(url)?;
    let style = "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(style)?);
    eprintln!("downloading {}", fetch::redacted(url));
    let download = Download {
        url,
        path,
        size: None,
        max_size,
        checksum: None,
    };
    let result = Client::new(&Config::default()).download(&download, &mut |event| match event {
        Event::Progress { received, size } => {
            if let Some(size) = size {
                bar.set_length(size);
            }
            let is_first = bar.position() == 0;
            bar.set_position(received);
            if is_first {
                // Bytes of an earlier run do not count for the speed.
                bar.reset_eta();
            }
        }
        Event::Retry { error, pause } => {
            let seconds = pause.as_secs_f64();
            bar.suspend(|| eprintln!("{error}; retrying in {seconds:.1} s"));
        }
        _ => {}
    });
    bar.finish_and_clear();
    Ok(result?)
}

/// Moves the complete data set in `new` to `target`. An existing `target`, which has no unlisted
/// files, is moved to `old`, and moved back if this fails.
fn replace(new: &Path, target: &Path, old: &Path) -> Result<()> {
    remove_dir(old)?;
    let exists = target.exists();
    if exists {
        fs::rename(target, old).with_context(|| format!("cannot move {}", target.display()))?;
    }
    let result = fs::rename(new, target);
    if result.is_err() && exists {
        let _ = fs::rename(old, target);
    }
    result.with_context(|| format!("cannot create {}", target.display()))
}

/// Removes a directory that an interrupted run may have left.
fn remove_dir(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
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
