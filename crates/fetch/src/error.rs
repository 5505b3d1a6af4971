//! Errors of requests and downloads.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The reason why a request or a download failed.
///
/// No field contains a user name, password, token or query, nor control characters from the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an absolute http or https URL.
    #[error("`{url}` is not an http or https URL")]
    Url {
        /// The rejected text, or `…` if it may contain secrets.
        url: String,
    },
    /// The request could not be sent, or no valid response arrived in time.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// URL of the request.
        url: String,
        /// Description of the failure.
        reason: String,
    },
    /// The response has an unexpected status code.
    #[error("{url} returned status {status}")]
    Status {
        /// URL of the request.
        url: String,
        /// HTTP status code, such as 404.
        status: u16,
        /// Value of the `Retry-After` header, if it is a number of seconds.
        retry_after: Option<Duration>,
    },
    /// The target of a redirect is not an http or https URL. Paths that do not start with a slash
    /// are not supported.
    #[error("{url} redirects to `{location}`, which is not an http or https URL")]
    Redirect {
        /// URL of the request.
        url: String,
        /// Value of the `Location` header; empty if it is not ASCII, and `…` if it may contain
        /// secrets.
        location: String,
    },
    /// A redirect leads from https to http.
    #[error("{url} redirects to {location}, which is not encrypted")]
    Unencrypted {
        /// URL of the request.
        url: String,
        /// Target of the redirect.
        location: String,
    },
    /// The request was redirected more than `limit` times.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects {
        /// URL of the first request.
        url: String,
        /// Maximum number of redirects.
        limit: usize,
    },
    /// The body is compressed, although the request does not accept that.
    #[error("{url} sent a compressed response")]
    Compressed {
        /// URL of the request.
        url: String,
    },
    /// The `Content-Range` of a partial response is missing or invalid, does not start at the
    /// requested byte, or contradicts the length of the body.
    #[error("{url} did not send the requested byte range")]
    Range {
        /// URL of the request.
        url: String,
    },
    /// A download without a checksum was resumed, and the ETag of the file is no longer the same.
    #[error("the file {url} changed during the download")]
    Changed {
        /// URL of the request.
        url: String,
    },
    /// The body of the response ended early, or the connection failed or was idle or slow for too
    /// long.
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
        /// Size in the headers of the response, or of the received file, in bytes. A body that
        /// continues after the expected size is not read further.
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
    /// The missing bytes of the file do not fit on the disk.
    #[error(
        "cannot write {}: the download needs {} MB, but only {} MB are free",
        path.display(), needed.div_ceil(1_000_000), free / 1_000_000
    )]
    NoSpace {
        /// Path of the incomplete file.
        path: PathBuf,
        /// Number of missing bytes.
        needed: u64,
        /// Number of free bytes.
        free: u64,
    },
    /// A local file cannot be read, written, locked, renamed or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation as a verb, such as `write`.
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
            Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::Range { .. }
            | Self::Changed { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 416 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the incomplete file must be deleted, so that the next attempt requests the whole
    /// file. Status 416 means that the server has no bytes after those received so far.
    pub(crate) fn discards_file(&self) -> bool {
        match self {
            Self::Range { .. }
            | Self::Changed { .. }
            | Self::TooLarge { .. }
            | Self::Status { status: 416, .. } => true,
            _ => self.is_corruption(),
        }
    }

    /// Whether the size or the checksum of the file is wrong.
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
