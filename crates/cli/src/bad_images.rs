//! Pictures that cannot be decoded: left out when that is wanted, each one aloud, else all listed in one error.
//!
//! With `--on-bad fail`, `train` reads all pictures before the first epoch; the other commands read them all once a
//! batch has failed. With `skip` the bad ones are looked for before anything is decided from the number of pictures,
//! so that configuration, progress and order all know the same data set.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::bail;
use dataset::{DecodeOptions, ImageFolder};
use serde::{Deserialize, Serialize};

use crate::args::TrainArgs;
use crate::data_source::Folder;
use crate::message::Message;
use crate::paths::relative;
use crate::render::Renderer;
use crate::values::OnBad;

/// A picture that was left out, as `config.toml` records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file, relative to the data folder.
    pub path: String,
    /// Why it cannot be used.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped {}: {}", self.path, self.reason)
    }
}

/// The pictures of `split` that cannot be decoded, by number; all are read. `root` is the data folder.
///
/// # Errors
///
/// When the workers cannot be started.
pub fn find(
    split: &ImageFolder,
    root: &Path,
    ignore_exif: bool,
    workers: usize,
) -> anyhow::Result<Vec<(usize, Skipped)>> {
    let bad = decode_all(split, ignore_exif, workers)?.into_iter();
    let named = bad.map(|(sample, error)| {
        let it = Skipped {
            path: relative(root, &split.samples()[sample].path),
            reason: error.reason(),
        };
        (sample, it)
    });
    Ok(named.collect())
}

/// The pictures of `split` that a run left out, by number.
pub fn recorded(split: &ImageFolder, root: &Path, skipped: Vec<Skipped>) -> Vec<(usize, Skipped)> {
    let numbers: HashMap<String, usize> = (0..)
        .zip(split.samples())
        .map(|(number, sample)| (relative(root, &sample.path), number))
        .collect();
    let skipped = skipped.into_iter();
    skipped
        .filter_map(|it| Some((*numbers.get(&it.path)?, it)))
        .collect()
}

/// Takes the pictures of these numbers out of `split`.
///
/// # Errors
///
/// A class that has no picture left.
pub fn leave_out(split: &mut ImageFolder, bad: &[(usize, Skipped)]) -> anyhow::Result<()> {
    let numbers: Vec<usize> = bad.iter().map(|(sample, _)| *sample).collect();
    let before = split.counts();
    *split = split.without(&numbers);
    refuse_empty(split, &before)
}

/// Takes the pictures that cannot be decoded out of `folder`, tells each, and returns them.
///
/// # Errors
///
/// A class of a split that has no picture left.
pub fn filter_bad_images(
    args: &TrainArgs,
    folder: &mut Folder,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<Vec<Skipped>> {
    if args.on_bad == OnBad::Fail {
        return Ok(Vec::new());
    }
    renderer.show(&Message::Working {
        what: format!("looking for bad pictures among {}", folder.images()),
    })?;
    let machine = &args.machine;
    let mut skipped = Vec::new();
    for split in [&mut folder.train, &mut folder.val] {
        let bad = find(
            split,
            &folder.root,
            machine.ignore_exif,
            machine.workers.get(),
        )?;
        for (_, it) in &bad {
            renderer.show(&Message::SkippedImage(it))?;
        }
        leave_out(split, &bad)?;
        skipped.extend(bad.into_iter().map(|(_, it)| it));
    }
    Ok(skipped)
}

/// What to say when reading a batch of `split` failed with `error`: all pictures that cannot be decoded, not the
/// first batch that has one. `error` itself where there are none, because it is about something else.
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

/// The error that lists what is `bad` among `checked` pictures.
pub fn refusal(bad: Vec<dataset::Error>, checked: usize) -> anyhow::Error {
    let errors = dataset::Error::BadImages {
        errors: bad,
        checked,
    };
    anyhow::Error::new(errors).context(
        "there are pictures that cannot be decoded; mend or remove them, or leave them out with --on-bad skip",
    )
}

fn decode_all(
    split: &ImageFolder,
    ignore_exif: bool,
    workers: usize,
) -> dataset::Result<Vec<(usize, dataset::Error)>> {
    let options = DecodeOptions {
        ignore_exif,
        ..DecodeOptions::default()
    };
    dataset::find_bad_images(split.samples(), &options, workers)
}

/// A class that lost all its pictures is an error, not a smaller problem to solve.
fn refuse_empty(split: &ImageFolder, before: &[usize]) -> anyhow::Result<()> {
    let counts = split.counts().into_iter().zip(before);
    let emptied: Vec<String> = counts
        .zip(split.classes())
        .filter(|((now, before), _)| *now == 0 && **before > 0)
        .map(|(_, class)| format!("`{class}`"))
        .collect();
    if !emptied.is_empty() {
        bail!(
            "--on-bad skip leaves no picture in {} of `{}`; replace its pictures, or remove the class folder",
            emptied.join(", "),
            split.root().display()
        );
    }
    Ok(())
}
