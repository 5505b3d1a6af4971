//! Draws a small data set of ants and bees, and a task for pretraining.
//!
//! The sample makes it possible to train without photographs and without a network connection. The
//! classes of [`INSECTS`], ants and bees, differ in shape and pattern. Their colors, sizes, poses,
//! light, backgrounds and clutter have the same distributions, so the mean color of an image does
//! not reveal its class. [`PRETRAINING`] takes the role of ImageNet: it has many classes of
//! animals, plants and objects, but no ants and no bees.
//!
//! An image is a function of (seed, split, class, index). The drawing code uses only additions,
//! subtractions, multiplications, divisions, square roots and rounding. IEEE 754 defines their
//! results exactly, so the pixels are the same on every machine.
//!
//! | task | start here |
//! |---|---|
//! | write the data set to a folder | [`write()`] |
//! | write other classes, or another number of images | [`write_classes`], [`PRETRAINING`] |
//! | draw one image in memory | [`Class::image`] |
//!
//! The crate has no features.
//!
//! ```
//! use sample::{INSECTS, SEED, Split};
//!
//! let [ants, bees] = &INSECTS;
//! let ant = ants.image(SEED, Split::Train, 0);
//! assert_eq!(ant, ants.image(SEED, Split::Train, 0));
//! assert_ne!(ant, bees.image(SEED, Split::Train, 0));
//!
//! // Writes DIR/{train,val}/{ants,bees}/*.png, unless the images already exist.
//! let folder = tempfile::tempdir()?;
//! let root = folder.path().join("sample");
//! # let few = sample::Counts { train: 2, val: 1 };
//! # sample::write_classes(&root, &INSECTS, SEED, few)?;
//! # if false {
//! sample::write(&root)?;
//! # }
//! assert!(root.join("train/ants/000.png").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod body;
mod bugs;
mod canvas;
mod class;
mod folder;
mod insects;
mod invertebrates;
mod plane;
mod plants;
mod scene;
mod shape;
mod signs;
mod stream;
mod texture;
mod vertebrates;

use std::path::Path;

pub use image;

pub use class::{Class, Counts, INSECTS, PRETRAINING, Split};
pub use folder::{Error, STAMP, Written, write_classes};

/// Seed of the images drawn by [`write()`].
pub const SEED: u64 = 1234;

/// Number of images per class in the sample. The totals, 240 and 150, are close to the 244 and 153
/// photographs of ants and bees in `hymenoptera_data`.
pub const COUNTS: Counts = Counts {
    train: 120,
    val: 75,
};

/// Writes the sample, [`COUNTS`] images of each class in [`INSECTS`] drawn with [`SEED`], to
/// `dir/{train,val}/{ants,bees}/NNN.png`, as [`write_classes`] does.
///
/// # Errors
///
/// Returns an error in the same cases as [`write_classes`].
pub fn write(dir: impl AsRef<Path>) -> Result<Written, Error> {
    write_classes(dir, &INSECTS, SEED, COUNTS)
}
