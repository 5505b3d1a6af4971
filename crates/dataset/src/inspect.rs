//! Searches a data set for problems before training.
//!
//! Training does not report some problems. An image in both train and val inflates the validation
//! accuracy. An image in two classes has a wrong label in one of them. A file with an unknown
//! extension is ignored. [`inspect()`] decodes all images, compares them with each other and
//! reports the files with these and other problems.

mod duplicates;
mod findings;
mod fingerprint;
mod listing;
mod perceptual;
mod report;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decode::DecodeOptions;
use crate::error::Result;
use crate::verify;
use fingerprint::{Fingerprinter, Inspected};
use listing::{Listed, Listing};
pub use report::{
    ClassCount, DuplicateGroup, DuplicateKind, IgnoreReason, Ignored, KindCount, Member,
    MostlyUnused, OddColor, OddShape, Report, Shape, SplitCounts, Thresholds, Unusable,
    WrongExtension,
};

/// Settings for [`inspect()`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectOptions {
    /// Number of worker threads. With 0, the calling thread decodes the images.
    pub workers: usize,
    /// Decoder settings. Use the same ones as for training.
    pub decode: DecodeOptions,
}

impl Default for InspectOptions {
    /// Uses four workers, like [`LoaderConfig`](crate::LoaderConfig).
    fn default() -> Self {
        Self {
            workers: 4,
            decode: DecodeOptions::default(),
        }
    }
}

impl InspectOptions {
    setters! {
        workers: usize,
        decode: DecodeOptions,
    }
}

/// Inspects the data set in `root`, which has a folder `train` and a folder `val`, `valid` or
/// `validation`.
///
/// The workers call `progress` with the number of finished images and the total. Comparing all
/// pairs of n images takes n² / 2 comparisons of eight bytes, one or two seconds for 50,000 images.
///
/// # Errors
///
/// Returns an error if `root` or a split does not exist, if a split has no class folders, if the
/// name of a class folder is not valid Unicode, if a folder cannot be read, or if a thread cannot
/// be started. Other problems with files and classes are part of the report.
pub fn inspect(
    root: impl AsRef<Path>,
    options: &InspectOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report> {
    let root = root.as_ref();
    let listing = Listing::scan(root)?;
    let results = inspect_all(&listing.images, options, progress)?;

    let mut report = Report::new(root, &listing);
    let mut hashed = Vec::new();
    for (listed, result) in listing.images.iter().zip(results) {
        let path = listing.relative(&listed.path);
        match result {
            Ok(inspected) => {
                report.add(&path, &listed.path, &inspected.info);
                hashed.push((listed, inspected.hashes));
            }
            Err(error) => report.unusable.push(Unusable {
                path,
                reason: error.reason(),
                exceeds_limit: error.exceeds_limit(),
            }),
        }
    }
    report.duplicates = duplicates::groups(&listing, &hashed);
    Ok(report)
}

/// Inspects all images on worker threads. The results are in the order of `images`.
fn inspect_all(
    images: &[Listed],
    options: &InspectOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Result<Inspected>>> {
    let slots: Vec<OnceLock<Result<Inspected>>> = images.iter().map(|_| OnceLock::new()).collect();
    let done = AtomicUsize::new(0);
    verify::for_each_index(
        images.len(),
        options.workers,
        || Fingerprinter::new(&options.decode),
        |fingerprinter, index| {
            // Each index is used once, so the slot is empty.
            let _ = slots[index].set(fingerprinter.inspect(&images[index].path));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
            Ok(())
        },
    )?;
    let slots = slots.into_iter();
    Ok(slots
        .map(|slot| slot.into_inner().expect("every image was inspected"))
        .collect())
}
