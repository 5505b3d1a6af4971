//! Pretrained weights from the Hugging Face hub. No other part of this crate uses the network.
//!
//! `timm/vgg16.tv_in1k` and its siblings contain torchvision's ImageNet weights (`IMAGENET1K_V1`) as safetensors.
//! [`fetch`] follows the conventions of `huggingface_hub`: `HF_HOME` and `HF_HUB_CACHE` for the cache, which it shares
//! with the Python library, `HF_ENDPOINT` for a mirror, `HF_TOKEN` or the saved token, and `HF_HUB_OFFLINE=1` for no
//! network access.
//!
//! The endpoint is untrusted. One answer provides the etag, the commit and the size of a file. The etag and the commit
//! become file names in the cache only if they are plain names. The file is downloaded next to its final place, verified
//! (size, and SHA-256 for files in LFS) and renamed. The token is sent only to the scheme, host and port of the endpoint.

mod address;
mod cache;
mod client;
mod download;
mod error;

use std::path::PathBuf;

use crate::config::VggConfig;
use crate::error::Error;
pub use address::Address;
use cache::RepoCache;
use client::Client;
pub use error::HubError;

/// A callback for the progress of a download: the bytes received so far, and the size of the file.
pub type OnProgress<'a> = dyn FnMut(usize, usize) + 'a;

/// The address of the ImageNet weights of an architecture.
///
/// # Errors
///
/// Returns [`Error::UnknownArchitecture`] if there is no architecture of this name.
pub fn imagenet(architecture: &str) -> Result<Address, Error> {
    let config = VggConfig::named(architecture, 1000)?;
    Ok(Address::new(&format!(
        "timm/{}.tv_in1k",
        config.architecture
    )))
}

/// Returns the path of a file in the cache, after downloading it if necessary, with the settings of the environment.
///
/// # Errors
///
/// Returns [`Error::Hub`] if the file cannot be downloaded or the cache cannot be written.
pub fn fetch(address: &Address, on_progress: &mut OnProgress<'_>) -> Result<PathBuf, Error> {
    Hub::from_env().fetch(address, on_progress)
}

/// Settings of downloads.
#[derive(Clone)]
pub struct Hub {
    /// URL of the hub or mirror, such as `https://huggingface.co`.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Access token, sent only to the endpoint.
    pub token: Option<String>,
    /// Whether to use only the cache.
    pub offline: bool,
}

impl Hub {
    /// Settings from `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE`. Empty variables count as
    /// unset.
    pub fn from_env() -> Self {
        let home = hf_hub::Cache::from_env();
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.path().clone(), PathBuf::from),
            // The saved token is in HF_HOME, not in HF_HUB_CACHE.
            token: variable("HF_TOKEN").or_else(|| home.token()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
        }
    }

    /// Returns the path of a file in the cache, after downloading it if necessary.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Hub`] if the file cannot be downloaded or the cache cannot be written.
    pub fn fetch(
        &self,
        address: &Address,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<PathBuf, Error> {
        self.try_fetch(address, on_progress)
            .map_err(|source| Error::Hub {
                address: Box::new(address.clone()),
                source: Box::new(source),
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
        let client = Client::new(&self.endpoint, self.token.clone())?;
        let metadata = client.metadata(address).map_err(|error| match error {
            HubError::Status { status: 404, .. } => match client.weights_files(address) {
                Ok(weights) => HubError::NoSuchFile {
                    file: address.file.clone(),
                    weights,
                },
                Err(_) => error,
            },
            error => error,
        })?;
        let _lock = cache.lock(&metadata.etag)?;
        let blob = cache.blob(&metadata.etag);
        // Another revision may have the same content, or another process downloaded it while this one waited.
        if download::verify(&blob, &metadata, "").is_err() {
            let incomplete = cache.incomplete(&metadata.etag);
            download::download(&client, address, &metadata, &incomplete, on_progress)?;
            std::fs::rename(&incomplete, &blob).map_err(HubError::cache(&blob))?;
        }
        cache.link(address, &metadata)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
