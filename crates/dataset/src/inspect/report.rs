//! The report of an inspection as serializable data.

use image::ImageFormat;
use serde::Serialize;

use crate::decode::Channels;
pub use crate::unused::{IgnoreReason, KindCount};

/// The findings about a data set. Paths are relative to its root folder and use forward slashes; one
/// that is not valid Unicode is written as [`path_text`](crate::path_text) describes.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Root folder of the data set.
    pub root: String,
    /// Image counts of train and val.
    pub splits: [SplitCounts; 2],
    /// Class folders without images, such as `train/ants`. Training rejects them.
    pub empty_classes: Vec<String>,
    /// Classes found only in val. Training rejects them.
    pub unknown_classes: Vec<String>,
    /// Classes found only in train. Validation metrics exclude them.
    pub classes_without_val: Vec<String>,
    /// Groups of class names that differ only in case. Each name is a class of its own, but some file
    /// systems cannot store them next to each other.
    pub similar_classes: Vec<Vec<String>>,
    /// Class folders with more unused than used images.
    pub mostly_unused: Vec<MostlyUnused>,
    /// Ratio of the sizes of the largest and smallest training classes, or `None` if a training
    /// class is empty.
    pub imbalance: Option<f64>,
    /// Files that cannot be decoded.
    pub unusable: Vec<Unusable>,
    /// Images whose extension does not match their format. Training uses them.
    pub wrong_extension: Vec<WrongExtension>,
    /// Files and folders that training ignores.
    pub ignored: Vec<Ignored>,
    /// Images of unusual size: tiny, narrow or huge.
    pub odd_shapes: Vec<OddShape>,
    /// Images that are not 8-bit RGB. Training converts them.
    pub odd_colors: Vec<OddColor>,
    /// Groups of duplicate images. A group may contain all images of a group with a stricter kind.
    pub duplicates: Vec<DuplicateGroup>,
    /// Thresholds that the findings are based on.
    pub thresholds: Thresholds,
}

/// Image counts of a split.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SplitCounts {
    /// Name of the split's folder.
    pub name: String,
    /// Number of images in all classes, including undecodable ones.
    pub images: usize,
    /// Counts per class, including classes that only the other split has.
    pub classes: Vec<ClassCount>,
    /// Files that are not used, by kind, without hidden ones.
    pub unused: Vec<KindCount>,
}

/// Number of images of one class in a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClassCount {
    /// Name of the class.
    pub class: String,
    /// Number of images, including undecodable ones.
    pub images: usize,
}

/// A class folder with more unused than used images, such as HEIC images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MostlyUnused {
    /// Path of the folder relative to [`Report::root`].
    pub folder: String,
    /// Number of images that are used.
    pub images: usize,
    /// Images that are not used, by kind.
    pub unused: Vec<KindCount>,
}

/// A file that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unusable {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Error message without the path.
    pub reason: String,
    /// Whether the image may be intact, but exceeds a limit of [`DecodeOptions`](crate::DecodeOptions).
    pub exceeds_limit: bool,
}

/// An image whose extension does not match its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WrongExtension {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Format of the content, such as `png`.
    pub content: String,
}

/// A file or folder that training ignores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ignored {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Why training ignores it.
    pub reason: IgnoreReason,
    /// The kind of the content, such as `HEIC image` or `text file`. `None` for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'static str>,
}

/// An image of unusual size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OddShape {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// The first of tiny, narrow and huge that applies.
    pub shape: Shape,
}

/// Ways in which an image's size can be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The shorter side is below [`Thresholds::tiny`].
    Tiny,
    /// The ratio of the sides is above [`Thresholds::narrow`].
    Narrow,
    /// The number of pixels is above [`Thresholds::huge`].
    Huge,
}

/// An image that is not 8-bit RGB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OddColor {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Channels stored for each pixel.
    pub channels: Channels,
    /// Bits stored per channel.
    pub bits: u8,
}

/// A group of duplicate images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DuplicateGroup {
    /// The strictest criterion that connects all the images.
    pub kind: DuplicateKind,
    /// Whether images are in both train and val, so that validation includes training images.
    pub leak: bool,
    /// Whether images are in more than one class, so that a label is wrong.
    pub conflict: bool,
    /// The images, sorted by split, class, folder and name.
    pub images: Vec<Member>,
}

/// Criteria by which images count as duplicates, from strict to loose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateKind {
    /// Equal file contents.
    File,
    /// Equal pixels in different files.
    Pixels,
    /// Similar appearance, such as scaled, recompressed or slightly cropped copies. See
    /// [`Thresholds::near_bits`] and [`Thresholds::near_levels`].
    Near,
}

/// An image of a [`DuplicateGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Path relative to [`Report::root`].
    pub path: String,
    /// Name of the split's folder.
    pub split: String,
    /// Name of the class.
    pub class: String,
}

/// Thresholds that the findings of a [`Report`] are based on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Thresholds {
    /// Tiny images have a side below this number of pixels.
    pub tiny: u32,
    /// Narrow images have one side longer than this multiple of the other.
    pub narrow: u32,
    /// Huge images have more than this number of pixels.
    pub huge: u64,
    /// Classes are unbalanced if the largest has more than this many times the images of the
    /// smallest.
    pub balance: f64,
    /// Near duplicates have perceptual hashes that differ in at most this many of 64 bits.
    pub near_bits: u32,
    /// Near duplicates have thumbnails whose mean difference is at most this, in levels of 255.
    pub near_levels: f32,
}

impl Report {
    /// Groups of duplicates with images in both train and val.
    pub fn leaks(&self) -> impl Iterator<Item = &DuplicateGroup> {
        self.duplicates.iter().filter(|group| group.leak)
    }

    /// Groups of duplicates with images in more than one class.
    pub fn conflicts(&self) -> impl Iterator<Item = &DuplicateGroup> {
        self.duplicates.iter().filter(|group| group.conflict)
    }

    /// Returns whether the report has findings that make training fail or its results misleading:
    /// files that cannot be decoded, class folders with mostly unused images, empty or unknown classes,
    /// a single class, and duplicates in more than one class or in both train and val.
    pub fn is_serious(&self) -> bool {
        !self.unusable.is_empty()
            || !self.mostly_unused.is_empty()
            || self.splits[0].classes.len() == 1
            || !self.empty_classes.is_empty()
            || !self.unknown_classes.is_empty()
            || self
                .duplicates
                .iter()
                .any(|group| group.leak || group.conflict)
    }
}

/// Returns the usual extension of a format.
pub(super) fn format_name(format: ImageFormat) -> String {
    match format {
        ImageFormat::Pnm => "pnm",
        other => other.extensions_str().first().copied().unwrap_or("unknown"),
    }
    .to_owned()
}
