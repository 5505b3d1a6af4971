//! What can go wrong while fetching, and what to do about it.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// How many names a message lists before it says how many more there are.
const LISTED: usize = 20;

/// The way out that works without any network, told by every error of the download.
const ELSEWHERE: &str = "give a copy or a mirror with --from FILE|URL, or train on the built-in sample, which needs no download";

/// Why the data could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of the manifest cannot be used.
    #[error("manifest, line {line}: {reason}")]
    Manifest {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// `--from` is an address of a kind that cannot be fetched.
    #[error("cannot fetch {given}: --from takes a file, or an address with http:// or https://")]
    Address {
        /// What was given.
        given: String,
    },

    /// `--from` names a file that is not there.
    #[error("there is no file {}: --from takes the path of the zip archive, or an http(s) address", path.display())]
    NoSuchFile {
        /// What was given.
        path: PathBuf,
    },

    /// A file or folder of ours could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Another run works on the same folder.
    #[error("another fetch-data is at work on {}: wait for it, or stop it", target.display())]
    Busy {
        /// The folder that both want to make.
        target: PathBuf,
    },

    /// The server could never be reached.
    #[error(
        "no network: {url} could not be reached ({reason}; {attempts} attempts).\nConnect and run this again; or {ELSEWHERE}"
    )]
    NoNetwork {
        /// What was asked for.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt failed with.
        reason: String,
    },

    /// The server answered that it will not give the file.
    #[error("{url} answered {status}.\nIf it was moved, {ELSEWHERE}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer, such as `404 Not Found`.
        status: String,
    },

    /// The transfer broke off again and again.
    #[error(
        "the download of {url} failed {attempts} times in a row, the last time because {reason}; {have} bytes are kept.\nRun this again to go on from there; or {ELSEWHERE}"
    )]
    Download {
        /// What was asked for.
        url: String,
        /// Attempts that brought nothing, one after the other.
        attempts: u32,
        /// What the last one failed with.
        reason: String,
        /// What has arrived so far.
        have: u64,
    },

    /// The server offers or sends more than such an archive can have.
    #[error("{url} sends more than {limit} bytes: that is not the archive; {ELSEWHERE}")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The most that is accepted.
        limit: u64,
    },

    /// The file is no zip archive, or a damaged one.
    #[error("{origin} is not a usable zip archive: {reason}.\n{ELSEWHERE_START}", ELSEWHERE_START = capitalised(ELSEWHERE))]
    NotAnArchive {
        /// The file or address it came from.
        origin: String,
        /// What the reader of archives said.
        reason: String,
    },

    /// The archive holds something that must not be unpacked. Nothing was written in place.
    #[error("{origin} is refused, nothing was unpacked: entry {entry:?} {reason}")]
    Unsafe {
        /// The file or address it came from.
        origin: String,
        /// Its name in the archive.
        entry: String,
        /// What it would do.
        reason: &'static str,
    },

    /// The archive is larger than the limits allow. Nothing was written in place.
    #[error("{origin} is refused, nothing was unpacked: {what} is over the limit of {limit}")]
    Limit {
        /// The file or address it came from.
        origin: String,
        /// What is too large.
        what: String,
        /// The most that is accepted.
        limit: u64,
    },

    /// The archive holds other files than the manifest lists. Nothing was written in place.
    #[error("{origin} does not hold what the manifest lists, nothing was unpacked:{}\n{ELSEWHERE_START}", listed(problems), ELSEWHERE_START = capitalised(ELSEWHERE))]
    Mismatch {
        /// The file or address it came from.
        origin: String,
        /// Every file that differs, in the manifest's order.
        problems: Vec<Problem>,
    },

    /// The destination has to be made anew, but holds files that would be lost.
    #[error("{} would be replaced, but also holds files that are not of the data set:{}\nMove them away, or choose another folder with --data DIR", target.display(), listed(extra))]
    InTheWay {
        /// The destination.
        target: PathBuf,
        /// The files that would be lost.
        extra: Vec<Problem>,
    },
}

impl Error {
    /// Whether the archive itself is at fault, so that fetching it afresh can help.
    pub(super) fn is_bad_archive(&self) -> bool {
        matches!(
            self,
            Self::NotAnArchive { .. }
                | Self::Unsafe { .. }
                | Self::Limit { .. }
                | Self::Mismatch { .. }
        )
    }
}

/// One file that is not as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Listed, but not there.
    Missing(String),
    /// There, but not listed.
    Extra(String),
    /// There, with other bytes than listed.
    Corrupt(String),
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "missing: {name}"),
            Self::Extra(name) => write!(f, "not in the manifest: {name}"),
            Self::Corrupt(name) => write!(f, "corrupt: {name}"),
        }
    }
}

/// An [`Error::Io`] maker for `map_err`.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

fn listed(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(LISTED) {
        // Writing into a string cannot fail.
        let _ = write!(text, "\n  {problem}");
    }
    if problems.len() > LISTED {
        let _ = write!(text, "\n  and {} more", problems.len() - LISTED);
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
