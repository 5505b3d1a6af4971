//! The built-in sample data set: drawings of ants and bees, and a task for pretraining.
//!
//! The sample makes it possible to train without photographs and without a network connection. The
//! classes of [`INSECTS`], ants and bees, differ in shape and pattern. Their colors, sizes, poses,
//! light, backgrounds and clutter have the same distributions, so the mean color of an image does
//! not reveal its class. [`PRETRAINING`] takes the role of ImageNet: it has many classes of
//! animals, plants and objects, but no ants and no bees.
//!
//! An image is a function of (seed, split, class, index). The drawing code uses only additions,
//! subtractions, multiplications, divisions and square roots. IEEE 754 defines their results
//! exactly, so the pixels are the same on every machine.
//!
//! ```
//! use dataset::sample::{INSECTS, SEED, Split};
//!
//! let [ants, bees] = &INSECTS;
//! let ant = ants.image(SEED, Split::Train, 0);
//! assert_eq!(ant, ants.image(SEED, Split::Train, 0));
//! assert_ne!(ant, bees.image(SEED, Split::Train, 0));
//!
//! // Writes DIR/{train,val}/{ants,bees}/*.png, unless the images already exist.
//! let folder = tempfile::tempdir()?;
//! let root = folder.path().join("sample");
//! # let few = dataset::sample::Counts { train: 2, val: 1 };
//! # dataset::sample::write_classes(&root, &INSECTS, SEED, few)?;
//! # if false {
//! dataset::sample::write(&root)?;
//! # }
//! assert!(root.join("train/ants/000.png").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod animals;
mod body;
mod canvas;
mod folder;
mod insects;
mod plane;
mod plants;
mod scene;
mod shape;
mod signs;
mod stream;
mod texture;

use std::path::Path;

use image::RgbImage;

use self::canvas::Canvas;
use self::plane::{Pose, at};
use self::stream::Stream;

pub use self::folder::{Error, Written};

/// Seed of the images drawn by [`write()`].
pub const SEED: u64 = 1234;

/// Number of images per class in the sample. The totals, 240 and 150, are close to the 244 and 153
/// photographs of ants and bees.
pub const COUNTS: Counts = Counts {
    train: 120,
    val: 75,
};

/// A split of the data set. The images of the two splits are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images to train on.
    Train,
    /// Images to validate on.
    Val,
}

impl Split {
    /// Both splits.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    /// Name of the split, which is also the name of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Number of images per class in each split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Number of training images per class.
    pub train: usize,
    /// Number of validation images per class.
    pub val: usize,
}

impl Counts {
    /// Number of images per class in `split`.
    pub fn of(self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
        }
    }
}

/// Draws an object in local coordinates. It faces +x, is about one unit long, and is centered at
/// the origin.
type Draw = fn(&mut Canvas, &mut Stream, &Pose);

/// A class of drawings: its name and drawing function.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    name: &'static str,
    draw: Draw,
}

const fn class(name: &'static str, draw: Draw) -> Class {
    Class { name, draw }
}

/// The classes of the sample, in the order of their labels.
pub static INSECTS: [Class; 2] = [class("ants", insects::ant), class("bees", insects::bee)];

/// The classes of the pretraining task, in the order of their labels, which is alphabetical.
pub static PRETRAINING: [Class; 38] = [
    class("acorn", plants::acorn),
    class("arrow", signs::arrow),
    class("beetle", animals::beetle),
    class("berries", plants::berries),
    class("bird", animals::bird),
    class("butterfly", animals::butterfly),
    class("caterpillar", animals::caterpillar),
    class("centipede", animals::centipede),
    class("clover", plants::clover),
    class("crab", animals::crab),
    class("crescent", signs::crescent),
    class("cross", signs::cross),
    class("daisy", plants::daisy),
    class("dragonfly", animals::dragonfly),
    class("feather", signs::feather),
    class("fern", plants::fern),
    class("fish", animals::fish),
    class("fly", animals::fly),
    class("gnat", animals::gnat),
    class("grasshopper", animals::grasshopper),
    class("key", signs::key),
    class("ladybird", animals::ladybird),
    class("leaf", plants::leaf),
    class("lizard", animals::lizard),
    class("lobed_leaf", plants::lobed_leaf),
    class("mushroom", plants::mushroom),
    class("ring", signs::ring),
    class("scissors", signs::scissors),
    class("scorpion", animals::scorpion),
    class("shield_bug", animals::shield_bug),
    class("snail", animals::snail),
    class("spider", animals::spider),
    class("spiral", signs::spiral),
    class("star", signs::star),
    class("starfish", animals::starfish),
    class("tulip", plants::tulip),
    class("wheel", signs::wheel),
    class("worm", animals::worm),
];

impl Class {
    /// Name of the class, which is also the name of its directory.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Draws image `index` of a split. Its width and height are from 72 to 140 pixels.
    pub fn image(&self, seed: u64, split: Split, index: u64) -> RgbImage {
        let mut stream = Stream::new(seed, split.name(), self.name, index);
        let (width, height) = (stream.count(72, 140), stream.count(72, 140));
        let mut canvas = scene::background(&mut stream, width, height);
        scene::clutter(&mut canvas, &mut stream, 3);

        let unit = canvas.side() * stream.between(0.65, 1.05);
        let mut along = |length: f32| {
            let room = (length - 0.8 * unit).max(0.0) / 2.0;
            length / 2.0 + stream.around(0.0, room)
        };
        let center = at(along(width as f32), along(height as f32));
        let slant = stream.between(canvas::MIN_SLANT, 1.0) * stream.sign();
        let pose = Pose::new(center, stream.unit(), unit).squashed(slant);
        (self.draw)(&mut canvas, &mut stream, &pose);

        if stream.chance(0.2) {
            scene::obstacle(&mut canvas, &mut stream, center);
        }
        scene::photograph(canvas, &mut stream)
    }
}

/// Writes the sample to `dir/{train,val}/{ants,bees}/NNN.png`, unless `dir` already contains it
/// unchanged.
///
/// A stamp file in `dir` lists the version, the seed, and the path and size of each image. If the
/// stamp does not match, `dir` is replaced. The images are written to a temporary directory next to
/// `dir`, which is then renamed, so `dir` never contains only some of the images.
///
/// # Errors
///
/// Returns [`Error::UnknownDirectory`] if `dir` is not empty and has no stamp file, and another
/// variant if a file cannot be read, encoded or written.
pub fn write(dir: &Path) -> Result<Written, Error> {
    write_classes(dir, &INSECTS, SEED, COUNTS)
}

/// Writes `counts` images of each of `classes`, such as [`PRETRAINING`], in the same way as
/// [`write()`].
///
/// # Errors
///
/// Returns the same errors as [`write()`].
pub fn write_classes(
    dir: &Path,
    classes: &[Class],
    seed: u64,
    counts: Counts,
) -> Result<Written, Error> {
    folder::write(dir, classes, seed, counts)
}
