//! The built-in sample: drawn pictures of two kinds of insects, and a drawn task to pretrain a network on.
//!
//! With it the main job runs on a machine that has no photographs and no network. It is a small version of the
//! real thing: [`INSECTS`], ants and bees, differ in shape and pattern, as real ones do, while their colours,
//! sizes, poses, light, backgrounds and clutter are drawn from the same distributions, so that mean colours tell
//! nothing. [`PRETRAINING`] stands for ImageNet: many classes of animals, plants and things, but no ant and no bee.
//!
//! A picture is a function of (seed, split, class, index) alone. It is drawn with additions, multiplications,
//! divisions and square roots only, which IEEE 754 fixes to the last bit, so every machine draws the same pixels.
//!
//! ```
//! use dataset::sample::{INSECTS, SEED, Split};
//!
//! let [ants, bees] = &INSECTS;
//! let ant = ants.picture(SEED, Split::Train, 0);
//! assert_eq!(ant, ants.picture(SEED, Split::Train, 0));
//! assert_ne!(ant, bees.picture(SEED, Split::Train, 0));
//!
//! // As a folder DIR/{train,val}/{ants,bees}/*.png; the second time it is found there.
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

/// The seed of the sample that [`write()`] writes.
pub const SEED: u64 = 1234;

/// How many pictures a class of the sample has; close to the photographs' 244 and 153 in all.
pub const COUNTS: Counts = Counts {
    train: 120,
    val: 75,
};

/// The two parts of a data set. Their pictures are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To learn from.
    Train,
    /// To judge by.
    Val,
}

impl Split {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Pictures of each class, by split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// In train.
    pub train: usize,
    /// In val.
    pub val: usize,
}

impl Counts {
    /// Those of one split.
    pub fn of(self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
        }
    }
}

/// Draws the subject in its own coordinates: it faces +x, is about one unit long, its middle at the origin.
type Draw = fn(&mut Canvas, &mut Stream, &Pose);

/// A class of drawn pictures.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    name: &'static str,
    draw: Draw,
}

const fn class(name: &'static str, draw: Draw) -> Class {
    Class { name, draw }
}

/// The two classes of the sample, in the order of their labels.
pub static INSECTS: [Class; 2] = [class("ants", insects::ant), class("bees", insects::bee)];

/// The classes of the pretraining task, in the order of their labels: by name, as folders are.
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
    /// The name of the class and of its folder.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Draws picture `index` of a split: RGB, 72 to 140 pixels a side.
    pub fn picture(&self, seed: u64, split: Split, index: u64) -> RgbImage {
        let mut stream = Stream::new(seed, split.name(), self.name, index);
        let (width, height) = (stream.count(72, 140), stream.count(72, 140));
        let mut canvas = scene::background(&mut stream, width, height);
        scene::clutter(&mut canvas, &mut stream, 3);

        let unit = canvas.side() * stream.between(0.65, 1.05);
        let mut along = |length: f32| {
            let room = (length - 0.8 * unit).max(0.0) / 2.0;
            length / 2.0 + stream.around(0.0, room)
        };
        let centre = at(along(width as f32), along(height as f32));
        let slant = stream.between(canvas::LEAST_SLANT, 1.0) * stream.sign();
        let pose = Pose::new(centre, stream.unit(), unit).squashed(slant);
        (self.draw)(&mut canvas, &mut stream, &pose);

        if stream.chance(0.2) {
            scene::obstacle(&mut canvas, &mut stream, centre);
        }
        scene::photograph(canvas, &mut stream)
    }
}

/// Writes the sample as `dir/{train,val}/{ants,bees}/NNN.png`, unless it is there already, unchanged.
///
/// It is written beside `dir` and renamed, so that nobody ever sees half of it. A folder that an older version
/// wrote, or in which a picture was changed, added or removed, is replaced; one that something else wrote is not.
///
/// # Errors
///
/// [`Error::NotOurs`], or the first file or folder that could not be written.
pub fn write(dir: &Path) -> Result<Written, Error> {
    write_classes(dir, &INSECTS, SEED, COUNTS)
}

/// Writes `counts` pictures of each of `classes`, as [`write()`] does: for example [`PRETRAINING`], to look at it.
///
/// # Errors
///
/// As [`write()`].
pub fn write_classes(
    dir: &Path,
    classes: &[Class],
    seed: u64,
    counts: Counts,
) -> Result<Written, Error> {
    folder::write(dir, classes, seed, counts)
}
