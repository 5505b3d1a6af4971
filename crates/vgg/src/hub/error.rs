//! Reasons why a download from the hub fails.

use std::io;
use std::path::{Path, PathBuf};

use super::Address;

/// The reason why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The configured endpoint is not an http or https URL.
    #[error("the endpoint `{endpoint}` is not an http or https URL")]
    Endpoint {
        /// The rejected value.
        endpoint: String,
    },
    /// The file is not in the cache and downloads are disabled.
    #[error("it is not in the cache {} and HF_HUB_OFFLINE is set", cache.display())]
    Offline {
        /// Path of the cache folder.
        cache: PathBuf,
    },
    /// The status code of a response indicates a failure.
    #[error("{url} returned status {status}")]
    Status {
        /// URL of the request.
        url: String,
        /// HTTP status code, such as 404.
        status: u16,
    },
    /// The repository exists, but does not contain the file.
    #[error("the repository has no file `{file}`")]
    NoSuchFile {
        /// Path of the file in the repository.
        file: String,
        /// At most 20 weights files in the repository, recognized by their extension.
        weights: Vec<String>,
    },
    /// The connection failed, or there was no response.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// URL of the request.
        url: String,
        /// Description of the connection error.
        reason: String,
    },
    /// The connection closed before the whole file arrived.
    #[error("the connection to {url} closed after {received} of {size} bytes")]
    Interrupted {
        /// URL of the request.
        url: String,
        /// Number of bytes received so far, including earlier attempts.
        received: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// A response does not have the expected format.
    #[error("unexpected response from {url}: {reason}")]
    UnexpectedResponse {
        /// URL of the request.
        url: String,
        /// The missing or invalid part of the response.
        reason: String,
    },
    /// A header that would become a file name in the cache is not safe as one.
    #[error("{url} returned the {header} {value:?}, which is not a plain name")]
    UnsafeName {
        /// URL of the request.
        url: String,
        /// Name of the header.
        header: &'static str,
        /// Value of the header.
        value: String,
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
    /// The size of the file differs from the size in the metadata.
    #[error("{url} sent {actual} bytes instead of {expected}")]
    Size {
        /// URL of the file.
        url: String,
        /// Size in the metadata, in bytes.
        expected: u64,
        /// Size of the received file, or the size stated by the response, in bytes.
        actual: u64,
    },
    /// The checksum of the file differs from the etag in the metadata.
    #[error("the {algorithm} of {url} is {actual} instead of {expected}")]
    Checksum {
        /// URL of the file.
        url: String,
        /// Name of the checksum: `SHA-256` or `git blob id`.
        algorithm: &'static str,
        /// Checksum in the metadata.
        expected: String,
        /// Checksum of the received bytes.
        actual: String,
    },
    /// A file or folder in the cache could not be read or written.
    #[error("cannot access {} in the cache: {source}", path.display())]
    Cache {
        /// Path of the file or folder.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
}

impl HubError {
    pub(super) fn cache(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Cache { path, source }
    }

    /// Whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 416 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the received file does not match the metadata.
    pub(super) fn is_corruption(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Checksum { .. })
    }

    /// Returns a suggestion for fixing the error.
    pub(crate) fn help(&self, address: &Address) -> String {
        match self {
            Self::Offline { .. } => "unset HF_HUB_OFFLINE, or use a weights file from disk".into(),
            Self::Status {
                status: 401 | 403, ..
            } => format!(
                "check the name {}, accept the terms of the repository on the hub, and set HF_TOKEN",
                address.repository
            ),
            Self::Status { status: 404, .. } => format!(
                "check the repository {} and the revision {}",
                address.repository, address.revision
            ),
            Self::NoSuchFile { weights, .. } if weights.is_empty() => {
                "use a repository that contains weights".into()
            }
            Self::NoSuchFile { weights, .. } => {
                format!("use one of its weights files: {}", weights.join(", "))
            }
            Self::Status { .. } => "try again later, or set HF_ENDPOINT to a mirror".into(),
            Self::Unreachable { .. } => {
                "check the network connection, set HF_ENDPOINT to a mirror, \
                or use a weights file from disk"
                    .into()
            }
            Self::Interrupted { .. } => "run the command again to continue the download".into(),
            Self::Endpoint { .. }
            | Self::UnexpectedResponse { .. }
            | Self::UnsafeName { .. }
            | Self::Redirect { .. }
            | Self::TooManyRedirects { .. } => {
                "set HF_ENDPOINT to the URL of the Hugging Face Hub or a mirror".into()
            }
            Self::Size { .. } | Self::Checksum { .. } => {
                "try again later, or set HF_ENDPOINT to another mirror".into()
            }
            Self::Cache { .. } => "set HF_HOME or HF_HUB_CACHE to a writable folder".into(),
        }
    }
}
