//! Pictures that cannot be decoded: left out of a training run when that is wanted, each one aloud.
//!
//! With `--on-bad fail` nothing happens here: reading all pictures before the first epoch lists the bad ones in an
//! error. With `skip` they are looked for before anything is decided from the number of pictures, so that
//! configuration, progress and order all know the same data set.

use anyhow::bail;
use dataset::{DecodeOptions, ImageFolder};
use serde::{Deserialize, Serialize};

use crate::args::TrainArgs;
use crate::data_source::Folder;
use crate::message::Message;
use crate::render::Renderer;
use crate::values::OnBad;
use crate::words::below;

/// A picture that was left out, as `config.toml` records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file, relative to the data folder.
    pub path: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// Takes the pictures that cannot be decoded out of `folder`, tells each, and returns them.
///
/// # Errors
///
/// A class of a split that has no picture left.
pub fn sort_out(
    args: &TrainArgs,
    folder: &mut Folder,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<Vec<Skipped>> {
    if args.on_bad == OnBad::Fail {
        return Ok(Vec::new());
    }
    renderer.show(&Message::Working {
        what: format!("looking for bad pictures among {}", folder.pictures()),
    })?;
    let options = DecodeOptions {
        ignore_exif: args.machine.ignore_exif,
        ..DecodeOptions::default()
    };
    let mut skipped = Vec::new();
    for split in [&mut folder.train, &mut folder.val] {
        let bad = dataset::find_bad(split.samples(), &options, args.machine.workers.get())?;
        for (sample, error) in &bad {
            let path = &split.samples()[*sample].path;
            let it = Skipped {
                path: below(&folder.root, path),
                reason: error.reason(),
            };
            renderer.show(&Message::SkippedPicture {
                path: &it.path,
                reason: &it.reason,
            })?;
            skipped.push(it);
        }
        let numbers: Vec<usize> = bad.iter().map(|(sample, _)| *sample).collect();
        let before = split.counts();
        *split = split.without(&numbers);
        refuse_empty(split, &before)?;
    }
    Ok(skipped)
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
