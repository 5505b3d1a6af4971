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

mod download;
mod error;
mod manifest;
mod partial;
mod progress;
mod unpack;

pub use download::{Patience, client};
pub use error::{Error, Problem};
pub use manifest::{Check, Checksum, Manifest};
pub use progress::Progress;
pub use unpack::Limits;

use error::io;
use partial::Partial;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Fetch although the folder is complete, and replace it although it holds other files too.
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
    if !found.extra.is_empty() && !options.force {
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
        Source::Url(url) => Partial::open(&workshop, url).and_then(|mut partial| {
            download_and_unpack(options, &mut partial, &unpacked, observer)
        }),
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

/// Name of the file in the workshop by which runs exclude each other.
const LOCK: &str = "lock";

/// Downloads and unpacks; once more from the beginning if the pieces of several answers do not make
/// a good archive.
fn download_and_unpack(
    options: &Options,
    partial: &mut Partial,
    unpacked: &Path,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<u64, Error> {
    let url = partial.origin.url.clone();
    let mut may_repeat = true;
    loop {
        download::download(&options.agent, partial, &options.patience, observer)?;
        let in_pieces = partial.in_pieces;
        match unpack_afresh(options, partial.path(), &url, unpacked, observer) {
            Err(error) if error.is_bad_archive() => {
                partial.discard()?;
                if !in_pieces || !may_repeat {
                    return Err(error);
                }
                may_repeat = false;
                observer(Event::StartingAfresh { reason: &error });
            }
            result => return result,
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

/// Puts `new` where `target` is. A folder cannot be renamed over another that holds files, so the old
/// one is moved aside first, and back if the second rename fails.
fn replace(new: &Path, target: &Path) -> Result<(), Error> {
    let old = beside(target, "old");
    if old.exists() {
        fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    let had_old = target.symlink_metadata().is_ok();
    if had_old {
        fs::rename(target, &old).map_err(io("move aside", target))?;
    }
    if let Err(error) = fs::rename(new, target) {
        if had_old {
            fs::rename(&old, target).map_err(io("move back", &old))?;
        }
        return Err(io("put in place", target)(error));
    }
    if had_old {
        fs::remove_dir_all(&old)
            .or_else(|_| fs::remove_file(&old))
            .map_err(io("remove", &old))?;
    }
    Ok(())
}

/// Keeps other runs away from the workshop until the returned file is closed.
fn lock(workshop: &Path, target: &Path) -> Result<File, Error> {
    let path = workshop.join(LOCK);
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            target: target.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// `.NAME.SUFFIX` in the folder that holds `target`: the same file system, so that a rename works.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target
        .file_name()
        .map_or_else(|| "data".into(), |name| name.to_string_lossy());
    target.with_file_name(format!(".{name}.{suffix}"))
}
