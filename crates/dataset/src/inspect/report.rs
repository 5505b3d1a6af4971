//! What a check found, as data: the program hashes it as a table or as JSON.

use std::path::Path;

use image::ImageFormat;
use serde::Serialize;

use super::listing::Listing;
use super::perceptual::{MOST_BITS, MOST_LEVELS};
use crate::decode::{Channels, ImageInfo};

/// A shorter side below this is tiny: the usual network input of 224 pixels enlarges it three and a half times.
const TINY: u32 = 64;
/// A longer side of more than this many shorter ones is narrow: the square that is cut out for validation shows
/// less than a fifth of such a image.
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
    /// Class folders without a image, as `train/ants`: training refuses them.
    pub empty_classes: Vec<String>,
    /// Class folders of val that train does not have: training refuses them.
    pub unknown_classes: Vec<String>,
    /// Classes of train that val has no folder for: training goes on, and never measures them.
    pub classes_without_val: Vec<String>,
    /// Images in the largest class of train for each one in the smallest; absent when one is empty.
    pub imbalance: Option<f64>,
    /// Files that cannot be decoded.
    pub unusable: Vec<Unusable>,
    /// Images whose content is of another format than their name says. They are used all the same.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files and folders that are passed over.
    pub ignored: Vec<Ignored>,
    /// Tiny, narrow and huge images.
    pub odd_shapes: Vec<OddShape>,
    /// Images that are not RGB of eight bits: they are converted.
    pub odd_colors: Vec<OddColor>,
    /// Images that occur more than once.
    pub duplicates: Vec<DuplicateGroup>,
    /// What counted as what.
    pub thresholds: Thresholds,
}

/// The images of a split.
#[derive(Clone, Debug, Serialize)]
pub struct SplitCounts {
    /// The folder's name.
    pub name: String,
    /// All of them.
    pub images: usize,
    /// By class; those of the other split are among them.
    pub classes: Vec<ClassCount>,
}

/// The images of a class in a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The class folder's name.
    pub class: String,
    /// How many.
    pub images: usize,
}

/// A file that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// The file.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// A image with another format's name.
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
    pub reason: IgnoreReason,
    /// The image format of the content, if it is a image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Why something is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IgnoreReason {
    /// Its name begins with a dot.
    Hidden,
    /// The extension is none of [`EXTENSIONS`](crate::image_folder::EXTENSIONS).
    Extension,
    /// A image beside the folders of the splits.
    OutsideSplits,
    /// A image beside the class folders.
    OutsideClasses,
    /// A folder that is neither train nor val.
    NotASplit,
    /// A link to a folder that it lies in.
    SymlinkLoop,
}

/// A image of an unusual shape.
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

/// A image that is not RGB of eight bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OddColor {
    /// The file.
    pub path: String,
    /// What its pixels consist of.
    pub channels: Channels,
    /// Bits of a channel.
    pub bits: u8,
}

/// Images that are one and the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateGroup {
    /// What they have in common.
    pub kind: DuplicateKind,
    /// They lie both in train and in val: val measures what was learned by heart.
    pub leak: bool,
    /// They lie in more than one class: one of the labels is wrong.
    pub conflict: bool,
    /// In the order of split, class and name.
    pub images: Vec<Member>,
}

/// How alike the images of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateKind {
    /// The same bytes.
    File,
    /// The same pixels in different files.
    Pixels,
    /// The same to the eye: scaled, compressed anew, slightly changed. See [`Thresholds::near_bits`].
    Near,
}

/// A image of a [`DuplicateGroup`].
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
    /// Out of balance: more images in the largest class than this many times those in the smallest.
    pub balance: f64,
    /// Near-duplicates: perceptual hashes that differ in at most this many of 64 bits, ...
    pub near_bits: u32,
    /// ... and thumbnails that differ by at most this many of 255 levels in the mean.
    pub near_levels: f32,
}

impl Report {
    pub(super) fn new(root: &Path, listing: &Listing) -> Self {
        let mut counts = [0, 1].map(|_| vec![0; listing.classes.len()]);
        for image in &listing.images {
            counts[image.split][image.class] += 1;
        }
        let splits = [0, 1].map(|split: usize| SplitCounts {
            name: listing.splits[split].clone(),
            images: counts[split].iter().sum(),
            classes: listing
                .classes
                .iter()
                .zip(&counts[split])
                .map(|(class, &images)| ClassCount {
                    class: class.clone(),
                    images,
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
            classes_without_val: only_in(0),
            imbalance: largest
                .zip(smallest)
                .map(|(largest, smallest)| largest as f64 / smallest as f64),
            unusable: Vec::new(),
            wrong_extension: Vec::new(),
            ignored: listing.ignored.clone(),
            odd_shapes: Vec::new(),
            odd_colors: Vec::new(),
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

    /// Adds what is unusual about a image that can be used.
    pub(super) fn add(&mut self, shown: &str, path: &Path, stored: &ImageInfo) {
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
            self.odd_colors.push(OddColor {
                path: path_of(),
                channels: stored.channels,
                bits: stored.bits,
            });
        }
    }

    /// The groups of images that lie both in train and in val.
    pub fn leaks(&self) -> impl Iterator<Item = &DuplicateGroup> {
        self.duplicates.iter().filter(|group| group.leak)
    }

    /// The groups of images that lie in more than one class.
    pub fn conflicts(&self) -> impl Iterator<Item = &DuplicateGroup> {
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
