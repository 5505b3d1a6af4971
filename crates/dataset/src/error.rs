//! The error type of this crate.

mod help;
mod lists;

use std::path::{Path, PathBuf};

use crate::file_kind::FileKind;
use crate::layout_hint::LayoutHint;
use crate::plan::Plan;
use crate::unused::KindCount;
use lists::{Lines, Only, Quoted};

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error from listing, decoding, transforming or loading images.
///
/// `Display` states the fact. [`Error::help`] suggests a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder does not exist or is a file.
    #[error("there is no folder `{}`", .path.display())]
    NoFolder {
        /// Path that is missing or not a folder.
        path: PathBuf,
    },

    /// The data set lacks a split.
    #[error("`{}` has no folder {}", .path.display(), Quoted(.accepted, " or "))]
    NoSplit {
        /// Root folder of the data set.
        path: PathBuf,
        /// Accepted names of the split's folder.
        accepted: Vec<String>,
        /// Best guess at the folder's actual layout, from which the help is derived.
        hint: LayoutHint,
    },

    /// A split has no class folders.
    #[error("`{}` has no class folders", .path.display())]
    NoClasses {
        /// Folder of the split.
        path: PathBuf,
    },

    /// Class folders contain no images.
    #[error(
        "no {}images in class folder{} {} of `{}`{}",
        if .unused.is_empty() { "" } else { "usable " },
        if .classes.len() == 1 { "" } else { "s" }, Quoted(.classes, ", "), .path.display(),
        Only(.unused)
    )]
    EmptyClasses {
        /// Folder of the split.
        path: PathBuf,
        /// Names of the empty classes.
        classes: Vec<String>,
        /// The files that these classes contain.
        unused: Vec<KindCount>,
    },

    /// Two class folders of a split contain the same folder with images, through a link.
    #[error(
        "`{}` and `{}` are the same folder, so its images have two labels",
        .paths[0].display(), .paths[1].display()
    )]
    SharedFolder {
        /// A path of the folder in each of the two classes.
        paths: [PathBuf; 2],
    },

    /// Class folders are not in the class map.
    #[error(
        "unknown class{} {} in `{}`; the training classes are {}",
        if .unknown.len() == 1 { "" } else { "es" }, Quoted(.unknown, ", "), .path.display(),
        Quoted(.classes, ", ")
    )]
    UnknownClasses {
        /// Folder of the split.
        path: PathBuf,
        /// Names of the folders that are not in the class map.
        unknown: Vec<String>,
        /// The class map: class names in label order.
        classes: Vec<String>,
    },

    /// The name of a class folder is not valid Unicode, so it cannot be a class name.
    #[error("the name of class folder `{}` is not valid Unicode", .path.display())]
    ClassName {
        /// Path of the folder.
        path: PathBuf,
    },

    /// Folders are nested too deeply.
    #[error("`{}` is more than {limit} folders deep", .path.display())]
    TooDeep {
        /// Path of the first folder beyond the limit.
        path: PathBuf,
        /// Maximum number of levels below a class folder.
        limit: usize,
    },

    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The underlying operating system error.
        source: std::io::Error,
    },

    /// The file is not an image, or an image in an unsupported format.
    #[error("cannot decode {}: {}", .path.display(), .kind.fact())]
    NotAnImage {
        /// Path of the file.
        path: PathBuf,
        /// The kind of the content.
        kind: FileKind,
    },

    /// The image uses a feature of its format that is not supported.
    #[error("cannot decode {}: {feature}, which is not supported", .path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// The format and the feature, such as `a TIFF image with Lab color`.
        feature: String,
    },

    /// The file is damaged, is not a regular file, or has no pixels.
    #[error("cannot decode {}: {reason}", .path.display())]
    Decode {
        /// Path of the file.
        path: PathBuf,
        /// Reason, usually reported by the decoder.
        reason: String,
    },

    /// The file is truncated.
    #[error("cannot decode {}: {}", .path.display(), self.reason())]
    Truncated {
        /// Path of the file.
        path: PathBuf,
    },

    /// The image exceeds [`DecodeOptions::max_pixels`](crate::DecodeOptions::max_pixels).
    #[error("cannot decode {}: {}", .path.display(), self.reason())]
    TooManyPixels {
        /// Path of the file.
        path: PathBuf,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Maximum number of pixels allowed.
        limit: usize,
    },

    /// Decoding the image needs more memory than
    /// [`DecodeOptions::max_bytes`](crate::DecodeOptions::max_bytes).
    #[error("cannot decode {}: {}", .path.display(), self.reason())]
    TooMuchMemory {
        /// Path of the file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Estimated memory of the pixels and the decoder's buffers, in bytes.
        needed: u64,
        /// Maximum memory allowed, in bytes.
        limit: u64,
    },

    /// The file exceeds [`DecodeOptions::max_bytes`](crate::DecodeOptions::max_bytes).
    #[error("cannot decode {}: {}", .path.display(), self.reason())]
    FileTooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Size of the file in bytes.
        bytes: u64,
        /// Maximum file size allowed, in bytes.
        limit: u64,
    },

    /// The image is not the one that was first read. See
    /// [`LoaderConfig::detect_changes`](crate::LoaderConfig::detect_changes).
    #[error("{} {}", .path.display(), self.reason())]
    Changed {
        /// Path of the file.
        path: PathBuf,
    },

    /// The function passed to [`LoaderConfig::decode_with`](crate::LoaderConfig::decode_with)
    /// failed for a reason that no other variant describes.
    #[error("cannot load {}", .path.display())]
    Custom {
        /// Path of the sample.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Some images cannot be loaded. Every image was checked.
    #[error("cannot decode {} of {checked} images{}", .errors.len(), Lines(.errors))]
    BadImages {
        /// One error for each image that failed, in the order of the samples.
        errors: Vec<Error>,
        /// Number of images checked, including valid ones.
        checked: usize,
    },

    /// A setting is out of range, or a slice has the wrong length.
    #[error("{setting} is {value}, expected {expected}")]
    Setting {
        /// Name of the setting as shown to users, such as `batch size`.
        setting: &'static str,
        /// The invalid value, formatted for display.
        value: String,
        /// Description of the valid values.
        expected: &'static str,
    },

    /// A crop plan's region is empty or exceeds the image that it is applied to, or its window is
    /// empty or exceeds the resized region or the square.
    #[error("the crop plan does not fit an image of {width} × {height} pixels")]
    Plan {
        /// The plan that does not fit.
        plan: Plan,
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },

    /// The function of [`LoaderConfig::augment`](crate::LoaderConfig::augment) changed the size of
    /// an image.
    #[error(
        "augmentation changed the size of {} from {size} × {size} to {width} × {height} pixels",
        .path.display()
    )]
    AugmentedSize {
        /// Path of the sample.
        path: PathBuf,
        /// Height and width before, in pixels.
        size: u32,
        /// Width after, in pixels.
        width: u32,
        /// Height after, in pixels.
        height: u32,
    },

    /// Images cannot be arranged in a grid.
    #[error("cannot arrange {images} images in a grid: {reason}")]
    Grid {
        /// Number of images.
        images: usize,
        /// Why the images cannot be arranged.
        reason: String,
    },

    /// A decoder, a function passed to [`LoaderConfig`](crate::LoaderConfig) or this crate panicked
    /// while loading an image.
    #[error("panicked while loading {item}: {message}")]
    Panic {
        /// Path of the image being loaded, or `batch` and the batch's index.
        item: String,
        /// The panic message.
        message: String,
    },

    /// The operating system cannot start a worker thread.
    #[error("cannot start a worker thread")]
    Spawn(#[source] std::io::Error),

    /// candle cannot create a tensor.
    #[error("cannot create the tensors of a batch")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Returns a function that converts the error of reading `path` to [`Error::Io`].
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// The message for lists of files. It leaves out the path that [`path`](Self::path) returns, and
    /// the item of [`Error::Panic`]. It includes the remedy where each file of a list can need
    /// another.
    pub fn reason(&self) -> String {
        match self {
            Self::NotAnImage { .. } | Self::Unsupported { .. } => {
                let remedy = self.help().unwrap_or_default();
                format!("{}; {remedy}", self.fact())
            }
            other => other.fact(),
        }
    }

    /// Like [`reason`](Self::reason), without a remedy.
    pub fn fact(&self) -> String {
        match self {
            Self::NotAnImage { kind, .. } => kind.fact(),
            Self::Unsupported { feature, .. } => format!("{feature}, which is not supported"),
            Self::Decode { reason, .. } => reason.clone(),
            Self::Truncated { .. } => "the file is truncated".into(),
            Self::TooManyPixels {
                width,
                height,
                limit,
                ..
            } => format!("{width} × {height} pixels exceed the limit of {limit} pixels"),
            Self::TooMuchMemory {
                width,
                height,
                needed,
                limit,
                ..
            } => format!(
                "{width} × {height} pixels need {} MiB of memory, the limit is {} MiB",
                needed >> 20,
                limit >> 20
            ),
            Self::FileTooLarge { bytes, limit, .. } => format!(
                "the file is {} MiB long, the limit is {} MiB",
                bytes >> 20,
                limit >> 20
            ),
            Self::Changed { .. } => "has changed since it was first read".into(),
            Self::Io { source, .. } => source.to_string(),
            Self::Custom { source, .. } => source.to_string(),
            Self::Panic { message, .. } => format!("panicked: {message}"),
            other => other.to_string(),
        }
    }

    /// Path of the affected file or folder, if reading, decoding or loading it failed without a
    /// panic.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::NotAnImage { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Changed { path }
            | Self::Decode { path, .. }
            | Self::Truncated { path }
            | Self::TooManyPixels { path, .. }
            | Self::TooMuchMemory { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::Custom { path, .. } => Some(path),
            _ => None,
        }
    }
}
