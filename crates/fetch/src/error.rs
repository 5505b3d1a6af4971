//! Reasons why a download fails.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The reason why a request or a download failed. URLs contain neither passwords nor queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL cannot be parsed, or has another scheme.
    #[error("`{url}` is not an http or https URL")]
    Url {
        /// The rejected text.
        url: String,
    },
    /// The connection failed, or the response was late or invalid.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// URL of the request.
        url: String,
        /// Description of the connection error.
        reason: String,
    },
    /// The status code of a response indicates a failure.
    #[error("{url} returned status {status}")]
    Status {
        /// URL of the request.
        url: String,
        /// HTTP status code, such as 404.
        status: u16,
        /// The delay that the server requests before the next attempt.
        retry_after: Option<Duration>,
    },
    /// The target of a redirect is not an http or https URL.
    #[error("{url} redirects to {location:?}, which is not an http or https URL")]
    Redirect {
        /// URL of the request.
        url: String,
        /// Value of the `Location` header.
        location: String,
    },
    /// There were too many redirects.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects {
        /// URL of the first request.
        url: String,
        /// Maximum number of redirects.
        limit: usize,
    },
    /// The response has another range than the requested one, or none.
    #[error("{url} sent another range than the requested one")]
    Range {
        /// URL of the request.
        url: String,
    },
    /// The body of a response ended too early, or the connection was idle for too long.
    #[error("the transfer from {url} stopped after {}", progress(*received, *size))]
    Interrupted {
        /// URL of the request.
        url: String,
        /// Number of bytes received so far, including earlier attempts.
        received: u64,
        /// Size of the file in bytes, if known.
        size: Option<u64>,
    },
    /// The file is larger than the limit of the request.
    #[error("{url} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// URL of the request.
        url: String,
        /// Maximum size in bytes.
        limit: u64,
    },
    /// The file does not have the expected size.
    #[error("{url} sent {actual} bytes instead of {expected}")]
    Size {
        /// URL of the request.
        url: String,
        /// Expected size in bytes.
        expected: u64,
        /// Size according to the response, in bytes.
        actual: u64,
    },
    /// The file does not have the expected checksum.
    #[error("the {algorithm} of {url} is {actual} instead of {expected}")]
    Checksum {
        /// URL of the request.
        url: String,
        /// Name of the checksum: `SHA-256` or `git blob id`.
        algorithm: &'static str,
        /// Expected checksum in hexadecimal digits.
        expected: String,
        /// Checksum of the received bytes in hexadecimal digits.
        actual: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation, as a verb.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Range { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 416 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the bytes received so far are not part of the expected file. For status 416, the
    /// file on the server is not longer than they are.
    pub(crate) fn discards_file(&self) -> bool {
        match self {
            Self::Range { .. } | Self::TooLarge { .. } | Self::Status { status: 416, .. } => true,
            _ => self.is_corruption(),
        }
    }

    /// Whether the received file is not the expected one.
    pub(crate) fn is_corruption(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Checksum { .. })
    }
}

fn progress(received: u64, size: Option<u64>) -> String {
    size.map_or_else(
        || format!("{received} bytes"),
        |size| format!("{received} of {size} bytes"),
    )
}
