//! Handling of images that cannot be decoded: each is skipped with a warning, or all are listed in
//! one error.
//!
//! With `--on-bad fail`, `train` decodes all images before the first epoch; `evaluate` and `show`
//! do so once a batch has failed. With `--on-bad skip`, bad images are removed before anything
//! depends on the number of images, so the configuration, the progress display and the order of
//! images in an epoch are all based on the same data set.

use std::collections::HashMap;
use std::path::Path;

use anyhow::bail;
use dataset::path_text::relative;
use dataset::{DecodeOptions, ImageFolder};

use crate::args::types::OnBad;
use crate::config::{Skipped, StageName};
use crate::data_source::Folder;
use crate::error::{Diagnostic, warn};
use crate::shell::quote;

/// Decodes all images of `split` and returns those that fail, each with its index in the split.
/// Paths are recorded relative to the data folder `root`.
///
/// # Errors
///
/// Returns an error if the workers cannot be started.
pub fn find(
    split: &ImageFolder,
    root: &Path,
    decode: &DecodeOptions,
    workers: usize,
) -> anyhow::Result<Vec<(usize, Skipped)>> {
    let bad = decode_all(split, decode, workers)?.into_iter();
    let skipped = bad.map(|(index, error)| {
        let image = Skipped {
            path: relative(root, &split.samples()[index].path),
            reason: error.reason(),
        };
        (index, image)
    });
    Ok(skipped.collect())
}

/// Decodes all images of `folder`.
///
/// # Errors
///
/// Returns an error that lists all images that cannot be decoded, or an error if the workers cannot
/// be started.
pub fn verify(folder: &Folder, decode: &DecodeOptions, workers: usize) -> anyhow::Result<()> {
    let mut bad = decode_all(&folder.train, decode, workers)?;
    bad.extend(decode_all(&folder.val, decode, workers)?);
    if bad.is_empty() {
        return Ok(());
    }
    let errors = bad.into_iter().map(|(_, error)| error).collect();
    Err(refusal(errors, folder.images()))
}

/// The images in `skipped` that belong to `split`, each with its index in the split. Their paths
/// are relative to the data folder `root`.
pub fn recorded(split: &ImageFolder, root: &Path, skipped: Vec<Skipped>) -> Vec<(usize, Skipped)> {
    let indices: HashMap<String, usize> = (0..)
        .zip(split.samples())
        .map(|(index, sample)| (relative(root, &sample.path), index))
        .collect();
    let skipped = skipped.into_iter();
    skipped
        .filter_map(|image| Some((*indices.get(&image.path)?, image)))
        .collect()
}

/// Removes images from `split`, with a warning for each, and returns them: those that cannot be decoded
/// with [`OnBad::Skip`], none with [`OnBad::Fail`], and without either those that a training run skipped,
/// `recorded`.
///
/// # Errors
///
/// Returns an error if a class has no images left, or if the workers cannot be started.
pub fn skip(
    split: &mut ImageFolder,
    root: &Path,
    on_bad: Option<OnBad>,
    recorded: Vec<Skipped>,
    decode: &DecodeOptions,
    workers: usize,
) -> anyhow::Result<Vec<Skipped>> {
    let skipped = match on_bad {
        None => self::recorded(split, root, recorded),
        Some(OnBad::Skip) => find(split, root, decode, workers)?,
        Some(OnBad::Fail) => Vec::new(),
    };
    for (_, image) in &skipped {
        warn(Diagnostic::new(image.to_string()));
    }
    leave_out(split, &skipped)?;
    Ok(skipped.into_iter().map(|(_, image)| image).collect())
}

/// Removes the images `bad` from `split`, given with their indices in it.
///
/// # Errors
///
/// Returns an error if a class has no images left.
pub fn leave_out(split: &mut ImageFolder, bad: &[(usize, Skipped)]) -> anyhow::Result<()> {
    let indices: Vec<usize> = bad.iter().map(|(index, _)| *index).collect();
    let before = split.counts();
    *split = split.without(&indices);
    refuse_empty(split, &before)
}

/// Replaces the `error` from a batch of `split` with one that lists all images that cannot be
/// decoded. Returns `error` unchanged if all images can be decoded, because its cause is then
/// something else.
pub fn explain(
    error: anyhow::Error,
    split: &ImageFolder,
    decode: &DecodeOptions,
    workers: usize,
) -> anyhow::Error {
    match decode_all(split, decode, workers) {
        Ok(bad) if !bad.is_empty() => refusal(
            bad.into_iter().map(|(_, error)| error).collect(),
            split.len(),
        ),
        _ => error,
    }
}

/// The error for a batch that could not be loaded, from the error of the trainer. It counts batches and
/// epochs from 1, with the baseline as epoch 1, as the output of `train` does. `stage` and `run` are
/// those of a training run, in which every image was decoded before. Other errors stay unchanged.
pub fn explain_batch(error: trainer::Error, run: Option<(StageName, &Path)>) -> anyhow::Error {
    let trainer::Error::Data {
        phase,
        epoch,
        batch,
        source,
    } = error
    else {
        return error.into();
    };
    let epoch = epoch.map_or_else(String::new, |epoch| format!(" of epoch {}", epoch + 1));
    let stage = run.map_or_else(String::new, |(stage, _)| {
        format!(" of stage {}", stage.as_str())
    });
    let diagnostic = Diagnostic::new(format!(
        "cannot load {phase} batch {}{epoch}{stage}",
        batch + 1
    ));
    let image = source
        .downcast_ref::<dataset::Error>()
        .and_then(dataset::Error::path);
    let diagnostic = match (image, run) {
        (Some(_), Some((_, directory))) => {
            let directory = quote(directory);
            diagnostic.help(format!(
                "restore the image, then resume the run with `waggle train --resume {directory}`"
            ))
        }
        _ => diagnostic,
    };
    diagnostic
        .caused_by(anyhow::Error::from_boxed(source))
        .into()
}

/// The error that lists the undecodable images `bad`, out of `checked` images.
pub fn refusal(bad: Vec<dataset::Error>, checked: usize) -> anyhow::Error {
    anyhow::Error::new(dataset::Error::BadImages {
        errors: bad,
        checked,
    })
}

fn decode_all(
    split: &ImageFolder,
    decode: &DecodeOptions,
    workers: usize,
) -> Result<Vec<(usize, dataset::Error)>, dataset::Error> {
    dataset::find_bad_images(split.samples(), decode, workers)
}

/// Returns an error if a class of `split` has lost all the images it had in `before`, because the
/// classes of the split would then differ from those of the data set.
fn refuse_empty(split: &ImageFolder, before: &[usize]) -> anyhow::Result<()> {
    let counts = split.counts().into_iter().zip(before);
    let emptied: Vec<String> = counts
        .zip(split.classes())
        .filter(|((now, before), _)| *now == 0 && **before > 0)
        .map(|(_, class)| format!("`{class}`"))
        .collect();
    if emptied.is_empty() {
        return Ok(());
    }
    let root = split.root().display();
    bail!(
        Diagnostic::new(format!(
            "cannot decode any image of {} in `{root}`",
            emptied.join(" or ")
        ))
        .help("replace the images, or remove the folder of the class")
    );
}
