//! The classes of drawings, and how an image of a class is composed.

use image::RgbImage;

use crate::canvas::{Canvas, MIN_SLANT};
use crate::plane::{Pose, at};
use crate::stream::Stream;
use crate::{bugs, insects, invertebrates, plants, scene, signs, vertebrates};

/// A split of the data set. The images of the two splits are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images to train on.
    Train,
    /// Images to validate on.
    Val,
}

impl Split {
    /// The splits, in the order in which they are written.
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

/// Draws an object in the local coordinates of a pose. The object is about one unit long and centered
/// at the origin. Animals face +x.
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
    class("beetle", bugs::beetle),
    class("berries", plants::berries),
    class("bird", vertebrates::bird),
    class("butterfly", bugs::butterfly),
    class("caterpillar", invertebrates::caterpillar),
    class("centipede", invertebrates::centipede),
    class("clover", plants::clover),
    class("crab", invertebrates::crab),
    class("crescent", signs::crescent),
    class("cross", signs::cross),
    class("daisy", plants::daisy),
    class("dragonfly", bugs::dragonfly),
    class("feather", signs::feather),
    class("fern", plants::fern),
    class("fish", vertebrates::fish),
    class("fly", bugs::fly),
    class("gnat", bugs::gnat),
    class("grasshopper", bugs::grasshopper),
    class("key", signs::key),
    class("ladybird", bugs::ladybird),
    class("leaf", plants::leaf),
    class("lizard", vertebrates::lizard),
    class("lobed_leaf", plants::lobed_leaf),
    class("mushroom", plants::mushroom),
    class("ring", signs::ring),
    class("scissors", signs::scissors),
    class("scorpion", invertebrates::scorpion),
    class("shield_bug", bugs::shield_bug),
    class("snail", invertebrates::snail),
    class("spider", invertebrates::spider),
    class("spiral", signs::spiral),
    class("star", signs::star),
    class("starfish", invertebrates::starfish),
    class("tulip", plants::tulip),
    class("wheel", signs::wheel),
    class("worm", invertebrates::worm),
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
        let slant = stream.between(MIN_SLANT, 1.0) * stream.sign();
        let pose = Pose::new(center, stream.unit(), unit).squashed(slant);
        (self.draw)(&mut canvas, &mut stream, &pose);

        if stream.chance(0.2) {
            scene::obstacle(&mut canvas, &mut stream, center);
        }
        scene::photograph(canvas, &mut stream)
    }
}
