//! The error type of `fetch-data`.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// Maximum number of files that a message lists.
const MAX_LISTED: usize = 20;

/// Help line for all download errors.
const HELP: &str = "help: pass a local copy or a mirror with --from FILE|URL, or train on the built-in sample, which needs no download";

/// An error returned by [`fetch`](super::fetch).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of the manifest is invalid.
    #[error("line {line} of the manifest is invalid: {reason}")]
    Manifest {
        /// Line number, from 1.
        line: usize,
        /// Why the line is invalid.
        reason: String,
    },

    /// The URL is invalid or has an unsupported scheme.
    #[error(
        "cannot download {given}\nhelp: --from takes a file, or a URL with http:// or https://"
    )]
    Address {
        /// The value of `--from`.
        given: String,
    },

    /// The local archive does not exist.
    #[error("cannot find {}\nhelp: --from takes the path of the zip archive, or a URL with http:// or https://", path.display())]
    NoSuchFile {
        /// Path of the archive.
        path: PathBuf,
    },

    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation, as a verb.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },

    /// Another process is fetching the same data set.
    #[error("another fetch-data is running for {}", target.display())]
    Busy {
        /// Destination directory.
        target: PathBuf,
    },

    /// The server cannot be reached.
    #[error("cannot connect to {url} after {attempts} attempts: {reason}\n{HELP}")]
    NoNetwork {
        /// URL of the archive.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
    },

    /// The server refused the request.
    #[error("cannot download {url}: {status}\n{HELP}")]
    Status {
        /// URL of the archive.
        url: String,
        /// HTTP status, such as `404 Not Found`.
        status: String,
    },

    /// The transfer failed repeatedly.
    #[error(
        "cannot download {url} after {attempts} attempts: {reason}\nkept {received} bytes, which the next run resumes\n{HELP}"
    )]
    Download {
        /// URL of the archive.
        url: String,
        /// Number of consecutive attempts without progress.
        attempts: u32,
        /// Why the last attempt failed.
        reason: String,
        /// Bytes received so far.
        received: u64,
    },

    /// The file on the server is too large.
    #[error("{url} is larger than {limit} bytes, so it is not the archive\n{HELP}")]
    TooLarge {
        /// URL of the archive.
        url: String,
        /// Maximum size in bytes.
        limit: u64,
    },

    /// The file is not a valid zip archive.
    #[error("{origin} is not a valid zip archive: {reason}\n{HELP}")]
    NotAnArchive {
        /// Path or URL of the archive.
        origin: String,
        /// Why the file is not a valid archive.
        reason: String,
    },

    /// The archive contains an entry that is not safe to unpack. The destination is unchanged.
    #[error("refusing to unpack {origin}: entry {entry:?} {reason}")]
    Unsafe {
        /// Path or URL of the archive.
        origin: String,
        /// Name of the entry.
        entry: String,
        /// Why the entry is not safe, as the end of a sentence.
        reason: &'static str,
    },

    /// The archive exceeds a limit. The destination is unchanged.
    #[error("refusing to unpack {origin}: {quantity} exceeds the limit of {limit}")]
    Limit {
        /// Path or URL of the archive.
        origin: String,
        /// Description of the quantity over the limit, such as `the total size of the files`.
        quantity: String,
        /// Maximum accepted value of the quantity.
        limit: u64,
    },

    /// The contents of the archive differ from the manifest. The destination is unchanged.
    #[error("{origin} does not match the manifest{}\n{HELP}", list(problems))]
    Mismatch {
        /// Path or URL of the archive.
        origin: String,
        /// Files that differ from the manifest.
        problems: Vec<Problem>,
    },

    /// The destination has to be replaced, but contains files that are not part of the data set.
    #[error("cannot replace {}: it contains other files{}\nhelp: move them, or choose another directory with --data", target.display(), list(extra))]
    ExtraFiles {
        /// Destination directory.
        target: PathBuf,
        /// Files that are not part of the data set.
        extra: Vec<Problem>,
    },
}

impl Error {
    /// Whether the error is in the archive itself, so that another download may succeed.
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

/// A difference between a directory or archive and the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A file in the manifest is missing.
    Missing(String),
    /// A file is not in the manifest.
    Extra(String),
    /// A file cannot be unpacked, or its checksum differs from the manifest.
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

/// Creates an [`Error::Io`], for `map_err`.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// Formats problems as indented lines, at most [`MAX_LISTED`] of them.
fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(MAX_LISTED) {
        // Writing to a `String` does not fail.
        let _ = write!(text, "\n  {problem}");
    }
    if problems.len() > MAX_LISTED {
        let _ = write!(text, "\n  and {} more", problems.len() - MAX_LISTED);
    }
    text
}
