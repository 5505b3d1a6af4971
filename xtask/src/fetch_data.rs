//! `cargo xtask fetch-data`: downloads, verifies and unpacks the photographs of ants and bees.
//!
//! [`fetch`] downloads and unpacks in the staging directory `.NAME.fetch` next to the destination,
//! and renames the result at the end. Even an interrupted run therefore never leaves a partly
//! unpacked destination. A partial download stays in the staging directory, and the next run
//! resumes it.
//!
//! ```no_run
//! use xtask::fetch_data::{Manifest, Options, Source, fetch};
//!
//! # fn main() -> Result<(), xtask::fetch_data::Error> {
//! let manifest = Manifest::parse(xtask::fetch_data::HYMENOPTERA_MANIFEST)?;
//! let source = Source::parse(xtask::fetch_data::HYMENOPTERA_URL)?;
//! let options = Options::new(source, manifest, "data/hymenoptera_data".into());
//! let outcome = fetch(&options, &mut |_event| {})?;
//! println!("{outcome:?}");
//! # Ok(())
//! # }
//! ```

mod download;
mod error;
mod manifest;
mod partial;
mod progress;
mod response;
mod staging;
mod unpack;

pub use download::{RetryPolicy, client};
pub use error::{Error, Problem};
pub use manifest::{Check, Checksum, Manifest};
pub use progress::Progress;
pub use unpack::Limits;

use error::io;
use partial::Partial;
use staging::{LOCK, lock, replace, sibling};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The archive of PyTorch's transfer learning tutorial.
pub const HYMENOPTERA_URL: &str = "https://download.pytorch.org/tutorial/hymenoptera_data.zip";

/// SHA-256 of each photograph, in the format of `sha256sum`.
pub const HYMENOPTERA_MANIFEST: &str = include_str!("../hymenoptera_data.sha256");

/// Location of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A local file.
    File(PathBuf),
    /// An HTTP or HTTPS URL.
    Url(String),
}

impl Source {
    /// Parses a URL or a path. Everything without `://` is a path.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Address`] for schemes other than http and https.
    pub fn parse(given: &str) -> Result<Self, Error> {
        match given.split_once("://") {
            Some(("http" | "https", _)) => Ok(Self::Url(given.to_owned())),
            Some(_) => Err(Error::Address {
                given: given.to_owned(),
            }),
            None => Ok(Self::File(given.into())),
        }
    }
}

/// Options of [`fetch`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Location of the archive.
    pub source: Source,
    /// Files that the archive must contain.
    pub manifest: Manifest,
    /// Destination directory.
    pub target: PathBuf,
    /// Download even if the destination is complete. If it contains files that are not part of the
    /// data set, [`fetch`] returns [`Error::ExtraFiles`] instead of deleting them.
    pub force: bool,
    /// When and how often a failed download is retried.
    pub retry: RetryPolicy,
    /// Size limits of the archive.
    pub limits: Limits,
    /// HTTP client, see [`client`].
    pub agent: ureq::Agent,
}

impl Options {
    /// Default options, with proxies from the environment.
    pub fn new(source: Source, manifest: Manifest, target: PathBuf) -> Self {
        Self {
            source,
            manifest,
            target,
            force: false,
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            agent: client(true),
        }
    }
}

/// Progress of [`fetch`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A request is about to be sent.
    Connecting {
        /// URL of the request.
        url: &'a str,
    },
    /// A response arrived, and its body is about to be received.
    Downloading {
        /// Bytes already received by earlier requests.
        received: u64,
        /// Size of the whole file in bytes, if known.
        total: Option<u64>,
    },
    /// A part of the body was received.
    Received {
        /// Number of bytes in this part.
        bytes: u64,
    },
    /// An attempt failed and is repeated after a pause.
    Retrying {
        /// Why the attempt failed.
        reason: &'a str,
        /// Time until the next attempt.
        pause: Duration,
    },
    /// The parts of a resumed download do not form a valid archive. The download starts over.
    Restarting {
        /// Why the archive is not valid.
        reason: &'a Error,
    },
    /// Unpacking is about to begin.
    Unpacking {
        /// Number of files to unpack.
        files: usize,
    },
    /// One file was unpacked.
    Unpacked,
}

/// Result of [`fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination was already complete.
    UpToDate {
        /// Number of files that were verified.
        files: usize,
        /// Total size of these files in bytes.
        bytes: u64,
        /// Files in the destination that are not part of the data set.
        extra: Vec<Problem>,
    },
    /// The destination was created or replaced.
    Fetched {
        /// Number of files written.
        files: usize,
        /// Total size of the files in bytes.
        bytes: u64,
    },
}

/// Creates the destination unless it is complete.
///
/// # Errors
///
/// Returns any variant of [`Error`] except [`Error::Manifest`]. If the download or unpacking fails,
/// the destination is unchanged.
pub fn fetch(options: &Options, observer: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Error> {
    let Options {
        manifest, target, ..
    } = options;
    let files = manifest.len();
    let check = manifest.check(target)?;
    if check.problems.is_empty() && !options.force {
        return Ok(Outcome::UpToDate {
            files,
            bytes: check.bytes,
            extra: check.extra,
        });
    }
    if target.exists() && !target.is_dir() {
        return Err(io("use as a folder", target)(
            ErrorKind::NotADirectory.into(),
        ));
    }
    if !check.extra.is_empty() {
        return Err(Error::ExtraFiles {
            target: target.clone(),
            extra: check.extra,
        });
    }

    if let Source::File(archive) = &options.source
        && !archive.is_file()
    {
        return Err(Error::NoSuchFile {
            path: archive.clone(),
        });
    }

    let staging = sibling(target, "fetch");
    fs::create_dir_all(&staging).map_err(io("create", &staging))?;
    let lock = lock(&staging, target)?;
    let unpacked = staging.join("unpacked");
    let result = match &options.source {
        Source::File(archive) => {
            let origin = archive.display().to_string();
            unpack_clean(options, archive, &origin, &unpacked, observer)
        }
        Source::Url(url) => download_and_unpack(options, url, &staging, &unpacked, observer),
    }
    .and_then(|bytes| replace(&unpacked, target).map(|()| bytes));
    drop(lock);
    match result {
        Ok(bytes) => {
            // The data set is complete, so failing to remove the staging directory is not an error.
            let _ = fs::remove_dir_all(&staging);
            Ok(Outcome::Fetched { files, bytes })
        }
        Err(error) => {
            // The staging directory is removed only if it contains no partial download. Errors of
            // the cleanup are ignored in favor of the original one.
            let _ = fs::remove_dir_all(&unpacked);
            let _ = fs::remove_file(staging.join(LOCK));
            let _ = fs::remove_dir(&staging);
            Err(error)
        }
    }
}

/// Downloads and unpacks. If a resumed download is not a valid archive, starts over once.
fn download_and_unpack(
    options: &Options,
    url: &str,
    staging: &Path,
    unpacked: &Path,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<u64, Error> {
    let mut partial = Partial::open(staging, url)?;
    let mut may_restart = true;
    loop {
        let result = download::download(&options.agent, &mut partial, &options.retry, observer)
            .and_then(|()| unpack_clean(options, partial.path(), url, unpacked, observer));
        match result {
            Err(error) if error.is_bad_archive() => {
                let restart = partial.resumed && may_restart;
                if !restart {
                    partial.remove();
                    return Err(error);
                }
                partial.discard()?;
                may_restart = false;
                observer(Event::Restarting { reason: &error });
            }
            Err(error) => {
                if partial.received == 0 {
                    partial.remove();
                }
                return Err(error);
            }
            Ok(bytes) => return Ok(bytes),
        }
    }
}

/// Unpacks into an empty directory, after removing the files of an interrupted run.
fn unpack_clean(
    options: &Options,
    archive: &Path,
    origin: &str,
    unpacked: &Path,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<u64, Error> {
    if unpacked.exists() {
        fs::remove_dir_all(unpacked).map_err(io("remove", unpacked))?;
    }
    observer(Event::Unpacking {
        files: options.manifest.len(),
    });
    unpack::unpack(
        archive,
        origin,
        &options.manifest,
        &options.limits,
        unpacked,
        &mut || observer(Event::Unpacked),
    )
}
