//! The photographs of ants and bees: found complete, or downloaded, checked and put in place.
//!
//! [`fetch`] is the whole chore. It works in a folder beside the destination, `.NAME.fetch`, and the
//! last step is a rename, so that the destination is either complete or as it was before, whenever it
//! is interrupted. What has been downloaded stays in that folder for the next run to go on from.
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

mod answer;
mod download;
mod error;
mod manifest;
mod partial;
mod progress;
mod unpack;
mod workshop;

pub use download::{Patience, client};
pub use error::{Error, Problem};
pub use manifest::{Check, Checksum, Manifest};
pub use progress::Progress;
pub use unpack::Limits;

use error::io;
use partial::Partial;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use workshop::{LOCK, beside, lock, replace};

/// Where PyTorch's transfer learning tutorial keeps the photographs.
pub const HYMENOPTERA_URL: &str = "https://download.pytorch.org/tutorial/hymenoptera_data.zip";

/// The SHA-256 of each photograph.
pub const HYMENOPTERA_MANIFEST: &str = include_str!("../hymenoptera_data.sha256");

/// Where the archive comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A copy on this machine.
    File(PathBuf),
    /// A server.
    Url(String),
}

impl Source {
    /// An address if it looks like one, else a path.
    ///
    /// # Errors
    /// [`Error::Address`] for schemes other than http and https.
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

/// What to fetch, from where, to where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the archive comes from.
    pub source: Source,
    /// What it must hold.
    pub manifest: Manifest,
    /// The folder to make.
    pub target: PathBuf,
    /// Fetch although the folder is complete. Files that are not of the data set are safe all the same.
    pub force: bool,
    /// How patient the download is.
    pub patience: Patience,
    /// How large the archive may be.
    pub limits: Limits,
    /// Who asks the server; see [`client`].
    pub agent: ureq::Agent,
}

impl Options {
    /// The usual settings.
    pub fn new(source: Source, manifest: Manifest, target: PathBuf) -> Self {
        Self {
            source,
            manifest,
            target,
            force: false,
            patience: Patience::default(),
            limits: Limits::default(),
            agent: client(true),
        }
    }
}

/// What happens on the way, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A request goes out.
    Connecting {
        /// To here.
        url: &'a str,
    },
    /// The server sends.
    Downloading {
        /// Bytes that are here already.
        have: u64,
        /// Bytes of the whole file, if the server says so.
        total: Option<u64>,
    },
    /// Some bytes arrived.
    Received {
        /// How many.
        bytes: u64,
    },
    /// An attempt failed; the next one comes after a pause.
    Retrying {
        /// What it failed with.
        reason: &'a str,
        /// How long.
        pause: Duration,
    },
    /// The download was put together from pieces and is not right: it begins anew.
    StartingAfresh {
        /// What is not right.
        reason: &'a Error,
    },
    /// The archive is being unpacked.
    Unpacking {
        /// Files to come.
        files: usize,
    },
    /// One file is unpacked.
    Unpacked,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The folder was complete; nothing was done.
    AlreadyThere {
        /// Files that were read and compared.
        files: usize,
        /// Their size.
        bytes: u64,
        /// Files there that are not of the data set; they were left alone.
        extra: Vec<Problem>,
    },
    /// The folder was made.
    Fetched {
        /// Files in it.
        files: usize,
        /// Their size.
        bytes: u64,
    },
}

/// Makes sure that the folder is there and complete.
///
/// # Errors
/// Every variant of [`Error`]. The destination is then as it was before.
pub fn fetch(options: &Options, observer: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Error> {
    let Options {
        manifest, target, ..
    } = options;
    let files = manifest.len();
    let found = manifest.check(target)?;
    if found.wrong.is_empty() && !options.force {
        return Ok(Outcome::AlreadyThere {
            files,
            bytes: found.bytes,
            extra: found.extra,
        });
    }
    if target.exists() && !target.is_dir() {
        return Err(io("use as a folder", target)(
            ErrorKind::NotADirectory.into(),
        ));
    }
    if !found.extra.is_empty() {
        return Err(Error::InTheWay {
            target: target.clone(),
            extra: found.extra,
        });
    }

    if let Source::File(archive) = &options.source
        && !archive.is_file()
    {
        return Err(Error::NoSuchFile {
            path: archive.clone(),
        });
    }

    let workshop = beside(target, "fetch");
    fs::create_dir_all(&workshop).map_err(io("create", &workshop))?;
    let lock = lock(&workshop, target)?;
    let unpacked = workshop.join("unpacked");
    let result = match &options.source {
        Source::File(archive) => {
            let origin = archive.display().to_string();
            unpack_afresh(options, archive, &origin, &unpacked, observer)
        }
        Source::Url(url) => download_and_unpack(options, url, &workshop, &unpacked, observer),
    }
    .and_then(|bytes| replace(&unpacked, target).map(|()| bytes));
    drop(lock);
    match result {
        Ok(bytes) => {
            // It holds nothing of value any more, and the data are in place: failing to remove it
            // is no failure of the chore.
            let _ = fs::remove_dir_all(&workshop);
            Ok(Outcome::Fetched { files, bytes })
        }
        Err(error) => {
            // What is half unpacked serves nobody. The folder itself goes only if no download is
            // kept in it. The error at hand matters more than one from here.
            let _ = fs::remove_dir_all(&unpacked);
            let _ = fs::remove_file(workshop.join(LOCK));
            let _ = fs::remove_dir(&workshop);
            Err(error)
        }
    }
}

/// Downloads and unpacks; once more from the beginning if the pieces of several answers do not make
/// a good archive.
fn download_and_unpack(
    options: &Options,
    url: &str,
    workshop: &Path,
    unpacked: &Path,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<u64, Error> {
    let mut partial = Partial::open(workshop, url)?;
    let mut may_repeat = true;
    loop {
        let result = download::download(&options.agent, &mut partial, &options.patience, observer)
            .and_then(|()| unpack_afresh(options, partial.path(), url, unpacked, observer));
        match result {
            Err(error) if error.is_bad_archive() => {
                let repeat = partial.in_pieces && may_repeat;
                if !repeat {
                    partial.remove();
                    return Err(error);
                }
                partial.discard()?;
                may_repeat = false;
                observer(Event::StartingAfresh { reason: &error });
            }
            Err(error) => {
                if partial.have == 0 {
                    partial.remove();
                }
                return Err(error);
            }
            Ok(bytes) => return Ok(bytes),
        }
    }
}

/// Unpacks into an empty folder, whatever an interrupted run has left there.
fn unpack_afresh(
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
