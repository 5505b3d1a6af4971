//! Downloads of pretrained weights from the Hugging Face Hub. Only this module, which needs the
//! default feature `hub`, uses the network.
//!
//! `timm/vgg16.tv_in1k` and the repositories of the other architectures contain torchvision's
//! ImageNet weights (`IMAGENET1K_V1`) as safetensors. [`fetch()`] follows the conventions of
//! `huggingface_hub`: `HF_HOME` and `HF_HUB_CACHE` for the cache, which is shared with the Python
//! library and is in `XDG_CACHE_HOME` or the home folder by default, `HF_ENDPOINT` for a mirror,
//! `HF_TOKEN` or the saved token, and `HF_HUB_OFFLINE=1` to disable network access.
//!
//! Responses of the endpoint are untrusted. The etag, commit and size of a file come from a single
//! response. The etag and commit become file names in the cache, so they must be plain names. The
//! crate `fetch` downloads the file to the cache and renames it after verification: the size if it
//! is known, and the checksum if the etag is one. The token is sent only to the scheme, host and
//! port of the endpoint. Nothing outside the cache is written: links in it are replaced, not followed.

mod address;
mod cache;
mod client;
mod error;

use std::path::PathBuf;
use std::time::Duration;

pub use address::Address;
use cache::RepoCache;
use client::HubClient;
pub use error::{FetchError, HubError};
/// The reason why a request or a transfer failed.
pub use fetch::Error as DownloadError;
/// Progress of a download.
pub use fetch::Event;

/// A callback for the progress of a download.
pub type OnEvent<'a> = dyn FnMut(Event<'_>) + 'a;

/// Returns the address of timm's copy of torchvision's ImageNet weights for an architecture, such
/// as `vgg16`. The name is not checked.
pub fn imagenet(architecture: &str) -> Address {
    Address::new(&format!("timm/{architecture}.tv_in1k"))
}

/// Downloads a file with [`Hub::from_env`] unless it is cached. Returns its path in the cache.
///
/// # Errors
///
/// Returns the errors of [`Hub::from_env`] and [`Hub::fetch`].
pub fn fetch(address: &Address, on_event: &mut OnEvent<'_>) -> Result<PathBuf, FetchError> {
    let hub = Hub::from_env().map_err(|source| source.of(address))?;
    hub.fetch(address, on_event)
}

/// Whether [`fetch()`] has to download a file, because it is not cached.
///
/// # Errors
///
/// Returns the errors of [`Hub::from_env`] and [`Hub::needs_download`].
pub fn needs_download(address: &Address) -> Result<bool, FetchError> {
    let hub = Hub::from_env().map_err(|source| source.of(address))?;
    hub.needs_download(address)
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
    /// Timeout of connecting, of receiving headers, and of silence during a transfer. The pauses
    /// between attempts are proportional to it.
    pub idle_timeout: Duration,
}

impl Hub {
    /// Reads settings from `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`
    /// and `HF_HUB_OFFLINE`. Variables that are empty or not UTF-8 count as unset, except that paths
    /// may have any encoding. As in Python, `1`, `on`, `yes` and `true` in `HF_HUB_OFFLINE` disable
    /// network access. If `HF_TOKEN` is unset, the token is read from the file `token` in `HF_HOME`.
    /// The idle timeout is 30 seconds.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::NoCacheFolder`] if no variable states the cache folder and the user has no
    /// home folder.
    pub fn from_env() -> Result<Self, HubError> {
        let text = |name: &str| {
            let value = std::env::var(name).ok()?.trim().to_string();
            Some(value).filter(|value| !value.is_empty())
        };
        let home = cache::home();
        let cache = cache::variable("HF_HUB_CACHE").or_else(|| Some(home.as_ref()?.join("hub")));
        Ok(Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache: cache.ok_or(HubError::NoCacheFolder)?,
            // The saved token is in HF_HOME, not in HF_HUB_CACHE.
            token: text("HF_TOKEN").or_else(|| cache::read_small(&home?.join("token"))),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| {
                let is_value = |yes: &&str| value.eq_ignore_ascii_case(yes);
                ["1", "on", "yes", "true"].iter().any(is_value)
            }),
            idle_timeout: Duration::from_secs(30),
        })
    }

    /// Whether [`fetch`](Self::fetch) has to download a file, because it is not cached.
    ///
    /// # Errors
    ///
    /// Returns an error if it has to, and downloads are disabled, or the endpoint or the token is
    /// invalid. There is no network access.
    pub fn needs_download(&self, address: &Address) -> Result<bool, FetchError> {
        let is_cached = || RepoCache::new(&self.cache, address).find(address).is_some();
        let client = address.check().and_then(|()| match is_cached() {
            true => Ok(false),
            false => HubClient::new(self).map(|_| true),
        });
        client.map_err(|source| source.of(address))
    }

    /// Downloads a file unless it is cached. Returns its path in the cache. Waits while another
    /// process downloads the same file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not cached and downloads are disabled, if the address, the
    /// endpoint or the token is invalid, if the file cannot be downloaded, or if the cache cannot be
    /// written.
    pub fn fetch(
        &self,
        address: &Address,
        on_event: &mut OnEvent<'_>,
    ) -> Result<PathBuf, FetchError> {
        self.try_fetch(address, on_event)
            .map_err(|source| source.of(address))
    }

    fn try_fetch(
        &self,
        address: &Address,
        on_event: &mut OnEvent<'_>,
    ) -> Result<PathBuf, HubError> {
        address.check()?;
        let cache = RepoCache::new(&self.cache, address);
        if let Some(path) = cache.find(address) {
            return Ok(path);
        }
        let client = HubClient::new(self)?;
        let metadata = client
            .metadata(address, on_event)
            .map_err(|error| match error {
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
        let _lock = cache.lock(&metadata.etag, on_event)?;
        // The blob may already exist, because another revision has the same content, or because
        // another process downloaded it while this process waited for the lock.
        let blob = cache.blob(&metadata.etag);
        client.download(address, &metadata, &blob, on_event)?;
        cache.link(address, &metadata)
    }
}
