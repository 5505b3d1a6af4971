//! What a check found, as data: the program prints it as a table or as JSON.

use std::path::Path;

use image::ImageFormat;
use serde::Serialize;

use super::listing::Listing;
use super::perceptual::{MOST_BITS, MOST_LEVELS};
use crate::decode::{Channels, Stored};

/// A shorter side below this is tiny: the usual network input of 224 pixels enlarges it three and a half times.
const TINY: u32 = 64;
/// A longer side of more than this many shorter ones is narrow: the square that is cut out for validation shows
/// less than a fifth of such a picture.
const NARROW: u32 = 4;
/// More pixels than this are huge: decoding takes a second, and nothing of it is left in the network's input.
const HUGE: u64 = 50_000_000;
/// A largest class of more than this many smallest ones is out of balance.
const BALANCE: f64 = 3.0;

/// Everything that was found. Paths are relative to the data set's folder, with forward slashes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The data set's folder.
    pub root: String,
    /// Train, then val.
    pub splits: [SplitCounts; 2],
    /// Class folders without a picture, as `train/ants`: training refuses them.
    pub empty_classes: Vec<String>,
    /// Class folders of val that train does not have: training refuses them.
    pub unknown_classes: Vec<String>,
    /// Classes of train that val has no folder for: training goes on, and never measures them.
    pub unmeasured_classes: Vec<String>,
    /// Pictures in the largest class of train for each one in the smallest; absent when one is empty.
    pub imbalance: Option<f64>,
    /// Files that cannot be decoded.
    pub unusable: Vec<Unusable>,
    /// Pictures whose content is of another format than their name says. They are used all the same.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files and folders that are passed over.
    pub ignored: Vec<Ignored>,
    /// Tiny, narrow and huge pictures.
    pub odd_shapes: Vec<OddShape>,
    /// Pictures that are not RGB of eight bits: they are converted.
    pub odd_colours: Vec<OddColour>,
    /// Pictures that occur more than once.
    pub duplicates: Vec<Group>,
    /// What counted as what.
    pub thresholds: Thresholds,
}

/// The pictures of a split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitCounts {
    /// The folder's name.
    pub name: String,
    /// All of them.
    pub pictures: usize,
    /// By class; those of the other split are among them.
    pub classes: Vec<ClassCount>,
}

/// The pictures of a class in a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The class folder's name.
    pub class: String,
    /// How many.
    pub pictures: usize,
}

/// A file that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// The file.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// A picture with another format's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongExtension {
    /// The file.
    pub path: String,
    /// The format of its content, such as `png`.
    pub content: String,
}

/// Something that is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// The file or folder.
    pub path: String,
    /// Why.
    pub why: Why,
    /// The picture format of the content, if it is a picture's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Why something is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its name begins with a dot.
    Hidden,
    /// The extension is none of [`EXTENSIONS`](crate::image_folder::EXTENSIONS).
    Extension,
    /// A picture beside the folders of the splits.
    BesideTheSplits,
    /// A picture beside the class folders.
    BesideTheClasses,
    /// A folder that is neither train nor val.
    NoSplit,
    /// A link to a folder that it lies in.
    LinkLoop,
}

/// A picture of an unusual shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OddShape {
    /// The file.
    pub path: String,
    /// In pixels, as stored.
    pub width: u32,
    /// In pixels, as stored.
    pub height: u32,
    /// What is unusual.
    pub shape: Shape,
}

/// What is unusual about a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// See [`Thresholds::tiny`].
    Tiny,
    /// See [`Thresholds::narrow`].
    Narrow,
    /// See [`Thresholds::huge`].
    Huge,
}

/// A picture that is not RGB of eight bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OddColour {
    /// The file.
    pub path: String,
    /// What its pixels consist of.
    pub channels: Channels,
    /// Bits of a channel.
    pub bits: u8,
}

/// Pictures that are one and the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub likeness: Likeness,
    /// They lie both in train and in val: val measures what was learned by heart.
    pub leak: bool,
    /// They lie in more than one class: one of the labels is wrong.
    pub conflict: bool,
    /// In the order of split, class and name.
    pub pictures: Vec<Member>,
}

/// How alike the pictures of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// The same bytes.
    File,
    /// The same pixels in different files.
    Pixels,
    /// The same to the eye: scaled, compressed anew, slightly changed. See [`Thresholds::near_bits`].
    Near,
}

/// A picture of a [`Group`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The file.
    pub path: String,
    /// The split's folder.
    pub split: String,
    /// The class folder.
    pub class: String,
}

/// What counted as what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// Tiny: a side below this many pixels.
    pub tiny: u32,
    /// Narrow: one side of more than this many times the other.
    pub narrow: u32,
    /// Huge: more pixels than this.
    pub huge: u64,
    /// Out of balance: more pictures in the largest class than this many times those in the smallest.
    pub balance: f64,
    /// Near-duplicates: perceptual hashes that differ in at most this many of 64 bits, ...
    pub near_bits: u32,
    /// ... and thumbnails that differ by at most this many of 255 levels in the mean.
    pub near_levels: f32,
}

impl Report {
    pub(super) fn new(root: &Path, listing: &Listing) -> Self {
        let mut counts = [0, 1].map(|_| vec![0; listing.classes.len()]);
        for picture in &listing.pictures {
            counts[picture.split][picture.class] += 1;
        }
        let splits = [0, 1].map(|split: usize| SplitCounts {
            name: listing.splits[split].clone(),
            pictures: counts[split].iter().sum(),
            classes: listing
                .classes
                .iter()
                .zip(&counts[split])
                .map(|(class, &pictures)| ClassCount {
                    class: class.clone(),
                    pictures,
                })
                .collect(),
        });
        let train: Vec<usize> = listing.present[0]
            .iter()
            .map(|&class| counts[0][class])
            .collect();
        let smallest = train.iter().copied().min().filter(|&least| least > 0);
        let largest = train.iter().copied().max();
        let mut empty_classes = Vec::new();
        for split in [0, 1] {
            let empty = listing.present[split].iter();
            let empty = empty.filter(|&&class| counts[split][class] == 0);
            let name = &listing.splits[split];
            empty_classes.extend(empty.map(|&class| format!("{name}/{}", listing.classes[class])));
        }
        let only_in = |split: usize| {
            let here = listing.present[split].iter();
            here.filter(|class| !listing.present[1 - split].contains(class))
                .map(|&class| listing.classes[class].clone())
                .collect()
        };
        Self {
            root: root.display().to_string(),
            splits,
            empty_classes,
            unknown_classes: only_in(1),
            unmeasured_classes: only_in(0),
            imbalance: largest
                .zip(smallest)
                .map(|(largest, smallest)| largest as f64 / smallest as f64),
            unusable: Vec::new(),
            wrong_extension: Vec::new(),
            ignored: listing.ignored.clone(),
            odd_shapes: Vec::new(),
            odd_colours: Vec::new(),
            duplicates: Vec::new(),
            thresholds: Thresholds {
                tiny: TINY,
                narrow: NARROW,
                huge: HUGE,
                balance: BALANCE,
                near_bits: MOST_BITS,
                near_levels: MOST_LEVELS,
            },
        }
    }

    /// Adds what is unusual about a picture that can be used.
    pub(super) fn add(&mut self, shown: &str, path: &Path, stored: &Stored) {
        let path_of = || shown.to_owned();
        if ImageFormat::from_path(path).ok() != Some(stored.format) {
            self.wrong_extension.push(WrongExtension {
                path: path_of(),
                content: named(stored.format),
            });
        }
        let (width, height) = (stored.width, stored.height);
        let (short, long) = (width.min(height), width.max(height));
        let shape = if short < TINY {
            Some(Shape::Tiny)
        } else if u64::from(long) > u64::from(NARROW) * u64::from(short) {
            Some(Shape::Narrow)
        } else if u64::from(width) * u64::from(height) > HUGE {
            Some(Shape::Huge)
        } else {
            None
        };
        self.odd_shapes.extend(shape.map(|shape| OddShape {
            path: path_of(),
            width,
            height,
            shape,
        }));
        if (stored.channels, stored.bits) != (Channels::Rgb, 8) {
            self.odd_colours.push(OddColour {
                path: path_of(),
                channels: stored.channels,
                bits: stored.bits,
            });
        }
    }

    /// The groups of pictures that lie both in train and in val.
    pub fn leaks(&self) -> impl Iterator<Item = &Group> {
        self.duplicates.iter().filter(|group| group.leak)
    }

    /// The groups of pictures that lie in more than one class.
    pub fn conflicts(&self) -> impl Iterator<Item = &Group> {
        self.duplicates.iter().filter(|group| group.conflict)
    }

    /// Whether training would refuse the data set or be misled by it: files that cannot be decoded, classes that
    /// are empty or unknown, contradicting labels, leaks from train to val.
    pub fn is_serious(&self) -> bool {
        !self.unusable.is_empty()
            || !self.empty_classes.is_empty()
            || !self.unknown_classes.is_empty()
            || self
                .duplicates
                .iter()
                .any(|group| group.leak || group.conflict)
    }
}

/// A format's name, as its usual extension.
pub(super) fn named(format: ImageFormat) -> String {
    match format {
        ImageFormat::Pnm => "pnm",
        other => other.extensions_str().first().copied().unwrap_or("unknown"),
    }
    .to_owned()
}
