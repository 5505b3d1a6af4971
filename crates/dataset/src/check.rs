//! What is wrong with a data set, found before anything is trained on it: every picture read whole, compared with
//! every other.
//!
//! Training tells little about its data: a picture that lies both in train and in val makes the accuracy look
//! better than it is, one that lies in two classes teaches a contradiction, and a file with the wrong extension is
//! passed over in silence. [`check`] finds these and says which files they are.

mod duplicates;
mod listing;
mod look;
mod perceptual;
mod report;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decode::DecodeOptions;
use crate::error::Result;
use crate::verify;
use listing::{Listed, Listing};
use look::{Looker, Seen};
pub use report::{
    ClassCount, Group, Ignored, Likeness, Member, OddColour, OddShape, Report, Shape, SplitCounts,
    Thresholds, Unusable, Why, WrongExtension,
};

/// How to check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Threads that read and decode; 0: the calling thread.
    pub workers: usize,
    /// What training will be given: limits, and whether pictures are turned upright.
    pub decode: DecodeOptions,
}

impl Default for CheckOptions {
    /// Four workers, as a [`LoaderConfig`](crate::LoaderConfig) has.
    fn default() -> Self {
        Self {
            workers: 4,
            decode: DecodeOptions::default(),
        }
    }
}

/// Checks the data set in `root`, with a folder `train` and a folder `val`, `valid` or `validation`.
///
/// `progress` is told, from the threads that work, how many pictures are done and how many there are. Comparing all
/// pairs of n pictures takes n² ÷ 2 comparisons of eight bytes: a second or two for 50,000 pictures.
///
/// # Errors
///
/// No such folder, a missing split, a split without class folders, or a folder that cannot be read. What is wrong
/// with single files or classes is no error but a finding.
pub fn check(
    root: impl AsRef<Path>,
    options: &CheckOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report> {
    let root = root.as_ref();
    let listing = Listing::of(root)?;
    let seen = look_at_all(&listing.pictures, options, progress)?;

    let mut report = Report::new(root, &listing);
    let mut compared = Vec::new();
    for (listed, seen) in listing.pictures.iter().zip(seen) {
        let path = listing.shown(&listed.path);
        match seen {
            Ok(look) => {
                report.add(&path, &listed.path, &look.stored);
                compared.push((listed, look.prints));
            }
            Err(error) => report.unusable.push(Unusable {
                path,
                reason: error.reason(),
            }),
        }
    }
    report.duplicates = duplicates::groups(&listing, &compared);
    Ok(report)
}

/// Reads every picture on the workers; a result for each, in order.
fn look_at_all(
    pictures: &[Listed],
    options: &CheckOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Result<Seen>>> {
    let places: Vec<OnceLock<Result<Seen>>> = pictures.iter().map(|_| OnceLock::new()).collect();
    let done = AtomicUsize::new(0);
    verify::each(
        pictures.len(),
        options.workers,
        || Looker::new(&options.decode),
        |looker, number| {
            // Each number is given out once, so the place is free.
            let _ = places[number].set(looker.look(&pictures[number].path));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
            Ok(())
        },
    )?;
    let places = places.into_iter();
    Ok(places
        .map(|place| place.into_inner().expect("every picture was looked at"))
        .collect())
}
