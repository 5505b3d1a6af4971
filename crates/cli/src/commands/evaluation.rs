//! The evaluation of a model on a labeled split, and the data set that a model was trained on.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::Device;
use dataset::{DecodeOptions, ImageFolder, Loader, LoaderConfig, path_text};
use trainer::{Evaluation, FrozenCache};

use crate::bad_images;
use crate::classifier::Classifier;
use crate::config::{Config, Skipped};
use crate::data_source::Source;
use crate::error::Diagnostic;
use crate::memory_limit;
use crate::non_finite_logit::CheckedNetwork;

/// Evaluates `model`, which is on `device`, on all images of `split`.
///
/// # Errors
///
/// Returns an error if a batch or the logits need more memory than there is, if an image cannot be
/// decoded, if the forward pass fails, or if a logit is not finite.
pub(super) fn evaluate(
    model: &Classifier,
    split: &ImageFolder,
    batch_size: usize,
    device: &Device,
    decode: &DecodeOptions,
    workers: usize,
) -> anyhow::Result<Evaluation> {
    memory_limit::check_logits(split.len(), model.classes().len())?;
    memory_limit::check_batch(&model.metadata.config, batch_size.min(split.len()), false)?;
    let config = LoaderConfig::eval(model.input_size())
        .batch_size(batch_size)
        .workers(workers)
        .normalize(model.normalize())
        .device(device.clone())
        // A single pass reads each image only once, so a cache would not help.
        .cache_bytes(0)
        .decode(decode.clone());
    let images = Loader::new(split.samples(), config)?;
    let network = CheckedNetwork::new(model.network());
    trainer::evaluate(&network, &images, &mut FrozenCache::off(), &mut |_| {
        ControlFlow::Continue(())
    })
    .map_err(|error| match (error, network.non_finite()) {
        (_, Some((image, logit))) => {
            let path = split.samples()[image].path.display();
            anyhow::Error::new(logit).context(format!("cannot evaluate {path}"))
        }
        (error @ trainer::Error::Data { .. }, None) => {
            let error = bad_images::explain_batch(error, None);
            bad_images::explain(error, split, decode, workers)
        }
        (error, None) => error.into(),
    })?
    .context("the evaluation stopped early")
}

/// Returns the path of the data set for a model: `given`, or the one that the model was trained on. If
/// the model was trained on it, also returns the images skipped by the training run.
///
/// The training run is identified by the `config.toml` next to the model.
pub(super) fn data(given: Option<&Path>, model: &Path) -> anyhow::Result<(PathBuf, Vec<Skipped>)> {
    let file = model.with_file_name(Config::FILE);
    if !file.is_file() {
        return Ok((Source::choose(given).root()?, Vec::new()));
    }
    // With --data, a damaged configuration is not an error.
    let config = match (given, Config::read(&file)) {
        (None, config) => Some(config?),
        (Some(_), config) => config.ok(),
    };
    let (trained_on, skipped) = config.map_or_else(Default::default, |config| {
        (path_text::decode(&config.data.root), config.data.skipped)
    });
    let root = root(given, &trained_on)?;
    let is_same =
        || matches!((root.canonicalize(), trained_on.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let skipped = if given.is_none() || is_same() {
        skipped
    } else {
        Vec::new()
    };
    Ok((root, skipped))
}

/// The path of the data set for a run: `given`, or `trained_on` if it still exists.
pub(super) fn root(given: Option<&Path>, trained_on: &Path) -> anyhow::Result<PathBuf> {
    if given.is_some() {
        return Source::choose(given).root();
    }
    if !trained_on.is_dir() {
        let folder = trained_on.display();
        bail!(
            Diagnostic::new(format!(
                "the data set of the run, `{folder}`, does not exist"
            ))
            .help("pass its new location with `--data DIR`")
        );
    }
    Ok(trained_on.to_path_buf())
}
