//! Downloads of pretrained weights from the Hugging Face Hub. Only this module, which needs the
//! default feature `hub`, uses the network.
//!
//! `timm/vgg16.tv_in1k` and the repositories of the other architectures contain torchvision's
//! ImageNet weights (`IMAGENET1K_V1`) as safetensors. [`fetch()`] follows the conventions of
//! `huggingface_hub`: `HF_HOME` and `HF_HUB_CACHE` for the cache, which is shared with the Python
//! library, `HF_ENDPOINT` for a mirror, `HF_TOKEN` or the saved token, and `HF_HUB_OFFLINE=1` to
//! disable network access.
//!
//! Responses of the endpoint are untrusted. The etag, commit and size of a file come from a single
//! response. The etag and commit become file names in the cache, so they must be plain names. The
//! crate `fetch` downloads the file to the cache and renames it after verification: the size if it
//! is known, and the checksum if the etag is one. The token is sent only to the scheme, host and
//! port of the endpoint.

mod address;
mod cache;
mod client;
mod error;

use std::path::PathBuf;

pub use address::Address;
use cache::RepoCache;
use client::HubClient;
pub use error::{FetchError, HubError};
/// The reason why a request or a transfer failed.
pub use fetch::Error as DownloadError;

/// A callback for the progress of a download. Its arguments are the number of received bytes and
/// the size of the file in bytes. If the server does not state the size, both are the number of
/// received bytes.
pub type OnProgress<'a> = dyn FnMut(usize, usize) + 'a;

/// Returns the address of timm's copy of torchvision's ImageNet weights for an architecture, such
/// as `vgg16`. The name is not checked.
pub fn imagenet(architecture: &str) -> Address {
    Address::new(&format!("timm/{architecture}.tv_in1k"))
}

/// Downloads a file with [`Hub::from_env`] unless it is cached. Returns its path in the cache.
///
/// # Errors
///
/// Returns the errors of [`Hub::fetch`].
///
/// # Panics
///
/// Panics if `HF_HOME` is unset or empty and the user has no home folder.
pub fn fetch(address: &Address, on_progress: &mut OnProgress<'_>) -> Result<PathBuf, FetchError> {
    Hub::from_env().fetch(address, on_progress)
}

/// Settings for downloads from the hub.
#[derive(Clone)]
pub struct Hub {
    /// URL of the hub or mirror, such as `https://huggingface.co`.
    pub endpoint: String,
    /// Path of the cache folder.
    pub cache: PathBuf,
    /// Access token, sent only to the endpoint.
    pub token: Option<String>,
    /// Whether to use only cached files, without network access.
    pub offline: bool,
}

impl Hub {
    /// Reads settings from `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN` and
    /// `HF_HUB_OFFLINE`. Variables that are empty or not UTF-8 count as unset. Any value of
    /// `HF_HUB_OFFLINE` except 0 disables network access. If `HF_TOKEN` is unset, the token is read
    /// from the file `token` in `HF_HOME`.
    ///
    /// # Panics
    ///
    /// Panics if `HF_HOME` is unset or empty and the user has no home folder.
    pub fn from_env() -> Self {
        // If `HF_HOME` is empty, hf-hub uses the folder `hub` in the current directory.
        let home = match variable("HF_HOME") {
            Some(_) => hf_hub::Cache::from_env(),
            None => hf_hub::Cache::default(),
        };
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.path().clone(), PathBuf::from),
            // The saved token is in HF_HOME, not in HF_HUB_CACHE.
            token: variable("HF_TOKEN").or_else(|| home.token()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
        }
    }

    /// Downloads a file unless it is cached. Returns its path in the cache.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not cached and downloads are disabled, if the endpoint is
    /// invalid, if the file cannot be downloaded, or if the cache cannot be written.
    pub fn fetch(
        &self,
        address: &Address,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<PathBuf, FetchError> {
        self.try_fetch(address, on_progress)
            .map_err(|source| FetchError {
                address: Box::new(address.clone()),
                source,
            })
    }

    fn try_fetch(
        &self,
        address: &Address,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.cache, address);
        if let Some(path) = cache.find(address) {
            return Ok(path);
        }
        if self.offline {
            return Err(HubError::Offline {
                cache: self.cache.clone(),
            });
        }
        let client = HubClient::new(&self.endpoint, self.token.clone())?;
        let metadata = client.metadata(address).map_err(|error| match error {
            HubError::Download(DownloadError::Status { status: 404, .. }) => {
                match client.weights_files(address) {
                    Ok(weights) => HubError::NoSuchFile {
                        file: address.file.clone(),
                        weights,
                    },
                    Err(_) => error,
                }
            }
            error => error,
        })?;
        let _lock = cache.lock(&metadata.etag)?;
        // The blob may already exist, because another revision has the same content, or because
        // another process downloaded it while this process waited for the lock.
        let blob = cache.blob(&metadata.etag);
        client.download(address, &metadata, &blob, on_progress)?;
        cache.link(address, &metadata)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
