//! Reasons why a download from the hub fails.

use std::io;
use std::path::{Path, PathBuf};

use super::Address;

/// The reason why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The configured endpoint is not an http or https address.
    #[error("the endpoint `{endpoint}` is not an http or https address")]
    Endpoint {
        /// The configured endpoint.
        endpoint: String,
    },
    /// The file is not in the cache and downloads are disabled.
    #[error("it is not in the cache {} and HF_HUB_OFFLINE is set", cache.display())]
    Offline {
        /// Folder of the cache.
        cache: PathBuf,
    },
    /// A server answered with an HTTP status that is not a success.
    #[error("{url} answered {status}")]
    Status {
        /// Address of the request.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The repository exists, but not the file.
    #[error("the repository has no file `{file}`")]
    NoSuchFile {
        /// Path of the file in the repository.
        file: String,
        /// At most 20 files of the repository that have an extension of weights files.
        weights: Vec<String>,
    },
    /// No connection, or no answer.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Address of the request.
        url: String,
        /// The error of the connection.
        reason: String,
    },
    /// The connection closed before the whole file arrived.
    #[error("the connection to {url} closed after {received} of {size} bytes")]
    Interrupted {
        /// Address of the request.
        url: String,
        /// Bytes received so far, earlier attempts included.
        received: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The answer is not one of a hub.
    #[error("{url} does not answer like a Hugging Face hub: {reason}")]
    NotAHub {
        /// Address of the request.
        url: String,
        /// The missing or invalid part of the answer.
        reason: String,
    },
    /// A header that becomes a file name in the cache is not a plain name.
    #[error("{url} sent {value:?} as {header}, which is not a plain name")]
    UnsafeName {
        /// Address of the request.
        url: String,
        /// Name of the header.
        header: &'static str,
        /// Value of the header.
        value: String,
    },
    /// A redirect to something other than an http or https address.
    #[error("{url} redirects to {location:?}, which is not an http or https address")]
    Redirect {
        /// Address of the request.
        url: String,
        /// Value of the `Location` header.
        location: String,
    },
    /// More redirects than the client follows.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects {
        /// Address of the first request.
        url: String,
        /// Number of redirects that are followed.
        limit: usize,
    },
    /// The size of the file differs from the size in the metadata.
    #[error("{url} sent {actual} bytes instead of {expected}")]
    Size {
        /// Address of the file.
        url: String,
        /// Size that the hub announced, in bytes.
        expected: u64,
        /// Size of the answer, in bytes.
        actual: u64,
    },
    /// The checksum of the file differs from the etag in the metadata.
    #[error("the {algorithm} of {url} is {actual} instead of {expected}")]
    Checksum {
        /// Address of the file.
        url: String,
        /// Name of the hash function.
        algorithm: &'static str,
        /// Checksum that the hub announced.
        expected: String,
        /// Checksum of the received bytes.
        actual: String,
    },
    /// The cache could not be read or written.
    #[error("cannot write {} in the cache: {source}", path.display())]
    Cache {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl HubError {
    pub(super) fn cache(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Cache { path, source }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 416 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the server sent other bytes than the metadata announces.
    pub(super) fn is_corruption(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Checksum { .. })
    }

    /// A remedy.
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
            | Self::NotAHub { .. }
            | Self::UnsafeName { .. }
            | Self::Redirect { .. }
            | Self::TooManyRedirects { .. } => {
                "set HF_ENDPOINT to the address of a Hugging Face hub or mirror".into()
            }
            Self::Size { .. } | Self::Checksum { .. } => {
                "try again later, or set HF_ENDPOINT to another mirror".into()
            }
            Self::Cache { .. } => "set HF_HOME or HF_HUB_CACHE to a writable folder".into(),
        }
    }
}
