//! Pretrained weights from the Hugging Face hub: the only file of this crate that touches the network.
//!
//! `timm/vgg16.tv_in1k` and its siblings hold torchvision's ImageNet weights (`IMAGENET1K_V1`) as safetensors.
//! The hub's conventions are honoured: `HF_HOME` and `HF_HUB_CACHE` for the cache, which is looked into first,
//! `HF_ENDPOINT` for a mirror, `HF_TOKEN` or the saved token, `HF_HUB_OFFLINE=1` to stay off the network.

use std::path::PathBuf;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};

use crate::config::VggConfig;
use crate::error::Error;

const FILE: &str = "model.safetensors";

/// What a download reports: the bytes so far and in all.
pub type OnProgress<'a> = dyn FnMut(usize, usize) + 'a;

/// The repository with the ImageNet weights of an architecture.
///
/// Errors: [`Error::UnknownArchitecture`].
pub fn repository(architecture: &str) -> Result<String, Error> {
    let config = VggConfig::named(architecture, 1000)?;
    Ok(format!("timm/{}.tv_in1k", config.architecture))
}

/// The path of `model.safetensors` of `repository` in the cache, downloaded if it is not there yet.
///
/// Errors: [`Error::Hub`], which says what happened and what to do next.
pub fn fetch(repository: &str, on_progress: &mut OnProgress<'_>) -> Result<PathBuf, Error> {
    let failed = |reason: String| Error::Hub {
        repository: repository.into(),
        file: FILE.into(),
        reason,
    };
    let cache = match set("HF_HUB_CACHE") {
        Some(folder) => Cache::new(folder.into()),
        None => Cache::from_env(),
    };
    let repo = Repo::model(repository.into());
    if let Some(path) = cache.repo(repo.clone()).get(FILE) {
        return Ok(path);
    }
    if set("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
        let place = cache.path().display();
        return Err(failed(format!(
            "HF_HUB_OFFLINE is set and the cache {place} does not hold it. {ADVICE}"
        )));
    }
    let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    let token = set("HF_TOKEN").or_else(|| cache.token());
    let api = ApiBuilder::from_cache(cache)
        .with_endpoint(endpoint.trim_end_matches('/').into())
        .with_token(token)
        .with_progress(false)
        .with_retries(3)
        .build()
        .map_err(|error| failed(explain(&error, &endpoint)))?;
    let reporter = Reporter {
        on_progress,
        done: 0,
        total: 0,
    };
    api.repo(repo)
        .download_with_progress(FILE, reporter)
        .map_err(|error| failed(explain(&error, &endpoint)))
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}

const ADVICE: &str = "Give weights you have with --weights FILE, a mirror with HF_ENDPOINT, \
    or train on the built-in sample, which needs no download";

/// The hub's answer in words, with what to do next.
fn explain(error: &ApiError, endpoint: &str) -> String {
    let (mut text, mut inner) = (error.to_string(), error);
    while let ApiError::TooManyRetries(source) = inner {
        (text, inner) = (source.to_string(), source);
    }
    let status = match inner {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some(status @ (401 | 403)) => format!(
            "{endpoint} refused it ({status}): the repository is misspelt, private or gated. \
             Check the name, accept its terms there, and set HF_TOKEN. {ADVICE}"
        ),
        Some(404) => format!("{endpoint} does not have it (404): check the name. {ADVICE}"),
        Some(status) => format!("{endpoint} answered {status}; try again later. {ADVICE}"),
        None => format!("{endpoint} could not be reached or broke off ({text}). {ADVICE}"),
    }
}

struct Reporter<'a, 'b> {
    on_progress: &'a mut OnProgress<'b>,
    done: usize,
    total: usize,
}

impl Progress for Reporter<'_, '_> {
    fn init(&mut self, size: usize, _: &str) {
        self.total = size;
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
