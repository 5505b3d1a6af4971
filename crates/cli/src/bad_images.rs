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
use dataset::{DecodeOptions, ImageFolder};

use crate::config::Skipped;
use crate::data_source::Folder;
use crate::error::Diagnostic;
use crate::paths::relative;

/// Decodes all images of `split` and returns those that fail, each with its index in the split.
/// Paths are recorded relative to the data folder `root`.
///
/// # Errors
///
/// Returns an error if the workers cannot be started.
pub fn find(
    split: &ImageFolder,
    root: &Path,
    ignore_exif: bool,
    workers: usize,
) -> anyhow::Result<Vec<(usize, Skipped)>> {
    let bad = decode_all(split, ignore_exif, workers)?.into_iter();
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
pub fn verify(folder: &Folder, ignore_exif: bool, workers: usize) -> anyhow::Result<()> {
    let mut bad = decode_all(&folder.train, ignore_exif, workers)?;
    bad.extend(decode_all(&folder.val, ignore_exif, workers)?);
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
    ignore_exif: bool,
    workers: usize,
) -> anyhow::Error {
    match decode_all(split, ignore_exif, workers) {
        Ok(bad) if !bad.is_empty() => refusal(
            bad.into_iter().map(|(_, error)| error).collect(),
            split.len(),
        ),
        _ => error,
    }
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
    ignore_exif: bool,
    workers: usize,
) -> Result<Vec<(usize, dataset::Error)>, dataset::Error> {
    let options = DecodeOptions::default().ignore_exif(ignore_exif);
    dataset::find_bad_images(split.samples(), &options, workers)
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
