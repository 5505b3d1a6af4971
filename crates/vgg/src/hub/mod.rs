//! Pretrained weights from the Hugging Face hub: the only part of this crate that touches the network.
//!
//! `timm/vgg16.tv_in1k` and its siblings hold torchvision's ImageNet weights (`IMAGENET1K_V1`) as safetensors.
//! The hub's conventions are honoured: `HF_HOME` and `HF_HUB_CACHE` for the cache, which is looked into first,
//! `HF_ENDPOINT` for a mirror, `HF_TOKEN` or the saved token, `HF_HUB_OFFLINE=1` to stay off the network.
//!
//! A transfer that breaks off goes on where it stopped. What has arrived is compared with the size and checksum
//! that the hub announced; what differs is thrown away and fetched once more from its beginning.

mod address;
mod answer;
mod verify;

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::config::VggConfig;
use crate::error::Error;
pub use address::Address;
use answer::ADVICE;

/// What a download reports: the bytes so far and in all.
pub type OnProgress<'a> = dyn FnMut(usize, usize) + 'a;

/// Where the ImageNet weights of an architecture are.
///
/// Errors: [`Error::UnknownArchitecture`].
pub fn imagenet(architecture: &str) -> Result<Address, Error> {
    let config = VggConfig::named(architecture, 1000)?;
    Ok(Address::of(&format!(
        "timm/{}.tv_in1k",
        config.architecture
    )))
}

/// The path of a file in the cache, downloaded if it is not there yet.
///
/// Errors: [`Error::Hub`], which says what happened and what to do next.
pub fn fetch(address: &Address, on_progress: &mut OnProgress<'_>) -> Result<PathBuf, Error> {
    let failed = |reason: String| Error::Hub {
        repository: address.repository.clone(),
        file: address.file.clone(),
        reason,
    };
    let cache = match set("HF_HUB_CACHE") {
        Some(folder) => Cache::new(folder.into()),
        None => Cache::from_env(),
    };
    let (name, revision) = (address.repository.clone(), address.revision.clone());
    let repo = Repo::with_revision(name, RepoType::Model, revision);
    let cached = cache.repo(repo.clone());
    // A commit that was asked for by its hash has no entry under refs.
    let by_hash = cached.pointer_path(&address.revision).join(&address.file);
    if by_hash.exists() {
        return Ok(by_hash);
    }
    if let Some(path) = cached.get(&address.file) {
        return Ok(path);
    }
    if set("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
        let place = cache.path().display();
        return Err(failed(format!(
            "HF_HUB_OFFLINE is set and the cache {place} does not hold it. {ADVICE}"
        )));
    }
    let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    // A saved token lies in HF_HOME, wherever the cache is.
    let token = set("HF_TOKEN").or_else(|| Cache::from_env().token());
    let api = ApiBuilder::from_cache(cache)
        .with_endpoint(endpoint.trim_end_matches('/').into())
        .with_token(token)
        .with_progress(false)
        .with_retries(3)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let repo = api.repo(repo);
    let refused = |error: ApiError| failed(answer::explain(&error, address, &repo, &endpoint));
    let about = api.metadata(&repo.url(&address.file)).map_err(refused)?;
    if !address::is_plain(about.etag()) || !address::is_plain(about.commit_hash()) {
        // Both become names in the cache.
        return Err(failed(format!(
            "{endpoint} answered, but not as a hub does (etag {:?}, commit {:?}); check HF_ENDPOINT",
            about.etag(),
            about.commit_hash()
        )));
    }

    let io =
        |error: std::io::Error| failed(format!("the cache cannot be used ({error}); set HF_HOME"));
    let mut objection = None;
    for _ in 0..2 {
        drop_what_cannot_be_resumed(&cached.blob_path(about.etag()), about.size()).map_err(io)?;
        let reporter = Reporter {
            on_progress: &mut *on_progress,
            done: 0,
            total: 0,
        };
        let path = repo
            .download_with_progress(&address.file, reporter)
            .map_err(refused)?;
        objection = verify::objection(&path, about.size(), about.etag()).map_err(io)?;
        if objection.is_none() {
            return Ok(path);
        }
        let content = path.canonicalize().map_err(io)?;
        std::fs::remove_file(content).map_err(io)?;
        // Gone with its content where there are no links.
        let _ = std::fs::remove_file(path);
    }
    Err(failed(format!(
        "what {endpoint} sent is damaged, twice: {}. {ADVICE}",
        objection.unwrap_or_default()
    )))
}

/// hf-hub goes on with what an earlier run left beside the file, which it must not when nothing is missing.
fn drop_what_cannot_be_resumed(blob: &Path, size: usize) -> std::io::Result<()> {
    let part = blob.with_extension("part");
    match part.metadata() {
        Ok(about) if about.len() >= size as u64 => std::fs::remove_file(part),
        _ => Ok(()),
    }
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}

struct Reporter<'a, 'b> {
    on_progress: &'a mut OnProgress<'b>,
    done: usize,
    total: usize,
}

impl Progress for Reporter<'_, '_> {
    // Called again, with what is there already as the first update, when a broken transfer goes on.
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size);
        (self.on_progress)(0, size);
    }

    fn update(&mut self, size: usize) {
        self.done += size;
        (self.on_progress)(self.done, self.total);
    }

    fn finish(&mut self) {
        (self.on_progress)(self.total, self.total);
    }
}
