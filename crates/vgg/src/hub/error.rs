//! Errors of downloads from the hub.

use std::io;
use std::path::{Path, PathBuf};

use super::Address;

/// The reason why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A component of the address is not a plain name. Parsed addresses have only plain names.
    #[error("the address has a component that is not a plain name")]
    Address,
    /// The user has no home folder for the cache.
    #[error("there is no home folder for the cache")]
    NoCacheFolder,
    /// The endpoint, or the URL of a file on it, is not an http or https URL.
    #[error("the endpoint {0}")]
    Endpoint(#[source] fetch::Error),
    /// The endpoint has a query, so that no path can be appended.
    #[error("the endpoint is a URL with a query")]
    EndpointQuery,
    /// The access token has characters that a header cannot contain.
    #[error("the access token contains spaces, control characters or characters other than ASCII")]
    Token,
    /// The file is not in the cache and downloads are disabled.
    #[error("it is not in the cache {}, and downloads are disabled", cache.display())]
    Offline {
        /// Path of the cache folder.
        cache: PathBuf,
    },
    /// The repository and the revision exist, but do not contain the file.
    #[error("the repository has no file `{file}`")]
    NoSuchFile {
        /// Path of the file in the repository.
        file: String,
        /// At most 20 weights files in the repository, detected by their extensions.
        weights: Vec<String>,
    },
    /// The response to a metadata or listing request does not have the expected format.
    #[error("unexpected response from {url}: {reason}")]
    UnexpectedResponse {
        /// URL of the request.
        url: String,
        /// The missing or invalid part of the response.
        reason: String,
    },
    /// The value of a header would become a file name in the cache, but is not a plain name.
    #[error("{url} returned the {header} {value:?}, which is not a plain name")]
    UnsafeName {
        /// URL of the request.
        url: String,
        /// Name of the header.
        header: &'static str,
        /// The first 200 characters of the value.
        value: String,
    },
    /// A request or the transfer of the file failed.
    #[error(transparent)]
    Download(#[from] fetch::Error),
    /// A file or folder in the cache could not be created or linked.
    #[error("cannot access {} in the cache: {source}", path.display())]
    Cache {
        /// Path of the file or folder in the cache.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },
}

impl HubError {
    pub(super) fn of(self, address: &Address) -> FetchError {
        FetchError {
            address: Box::new(address.clone()),
            source: self,
        }
    }

    pub(super) fn cache(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Cache { path, source }
    }
}

/// The error of a file that could not be downloaded from the hub.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {address}: {source}")]
#[non_exhaustive]
pub struct FetchError {
    /// Address of the requested file.
    pub address: Box<Address>,
    /// The reason why the download failed.
    pub source: HubError,
}

impl FetchError {
    /// Whether the cause is the request or this computer, so that the hub need not be replaced.
    pub fn is_local(&self) -> bool {
        use fetch::Error;
        matches!(
            &self.source,
            HubError::Address
                | HubError::NoCacheFolder
                | HubError::Token
                | HubError::NoSuchFile { .. }
                | HubError::Cache { .. }
                | HubError::Download(
                    Error::NoSpace { .. }
                        | Error::Io { .. }
                        | Error::Status {
                            status: 401 | 403 | 404,
                            ..
                        }
                )
        )
    }

    /// Returns a suggestion for fixing the error.
    pub fn help(&self) -> String {
        use fetch::Error;
        let text = match &self.source {
            HubError::Offline { .. } => "unset HF_HUB_OFFLINE to download it",
            HubError::NoSuchFile { weights, .. } if weights.is_empty() => {
                "use a repository that contains weights"
            }
            HubError::NoSuchFile { weights, .. } => {
                return format!("use one of its weights files: {}", weights.join(", "));
            }
            HubError::Download(Error::Status {
                status: 401 | 403, ..
            }) => {
                return format!(
                    "check the name {}, accept the terms of the repository on the hub, \
                    and set HF_TOKEN",
                    self.address.repository
                );
            }
            HubError::Download(Error::Status { status: 404, .. }) => {
                return format!(
                    "check the repository {} and the revision {}",
                    self.address.repository, self.address.revision
                );
            }
            HubError::Download(Error::Unreachable { .. }) => {
                "check the network connection, set HTTPS_PROXY to the proxy of your network if it has \
                one, or set HF_ENDPOINT to a mirror"
            }
            HubError::Download(Error::Interrupted { .. } | Error::Changed { .. }) => {
                "run the command again to resume the download"
            }
            HubError::Download(
                Error::Status { .. }
                | Error::Size { .. }
                | Error::Checksum { .. }
                | Error::Range { .. },
            ) => {
                "try again later, set HF_ENDPOINT to another mirror, or use a weights file from disk"
            }
            HubError::Download(Error::NoSpace { .. }) => {
                "free disk space, or set HF_HOME or HF_HUB_CACHE to a folder on another disk"
            }
            HubError::Download(Error::Io { .. })
            | HubError::Cache { .. }
            | HubError::NoCacheFolder => "set HF_HOME or HF_HUB_CACHE to a writable folder",
            HubError::Token => "set HF_TOKEN to an access token of the hub, or to nothing",
            HubError::Address => "use an address such as timm/vgg16.tv_in1k",
            HubError::Endpoint { .. }
            | HubError::EndpointQuery
            | HubError::UnexpectedResponse { .. }
            | HubError::UnsafeName { .. }
            | HubError::Download(_) => {
                "set HF_ENDPOINT to the URL of the Hugging Face Hub or a mirror"
            }
        };
        text.into()
    }
}
