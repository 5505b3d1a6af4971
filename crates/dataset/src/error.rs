//! The errors of this crate: what went wrong, in which file or folder, and what to do next.

use std::fmt;
use std::path::PathBuf;

use crate::image_folder::EXTENSIONS;
use crate::layout_hint::LayoutHint;
use crate::transform::Plan;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a folder of images and a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder does not exist, or is a file.
    #[error("there is no folder `{}`", .path.display())]
    NoFolder {
        /// The folder that was asked for.
        path: PathBuf,
    },

    /// A data set without the folder of a split.
    #[error(
        "`{}` holds no folder {}; {hint}",
        .path.display(), Quoted(.accepted, " or ")
    )]
    NoSplit {
        /// The data set's folder.
        path: PathBuf,
        /// The names that would do.
        accepted: Vec<String>,
        /// What the folder seems to be instead.
        hint: LayoutHint,
    },

    /// A split without class folders.
    #[error(
        "`{}` holds no class folder; put the images of each class into a folder of its own, \
         for example `{}`",
        .path.display(), .path.join("ants").join("1.jpg").display()
    )]
    NoClasses {
        /// The folder of the split.
        path: PathBuf,
    },

    /// Class folders without a single image.
    #[error(
        "no image in the class folder {} of `{}`; accepted extensions, in any case: {}",
        Quoted(.classes, ", "), .path.display(), EXTENSIONS.join(" ")
    )]
    EmptyClasses {
        /// The folder of the split.
        path: PathBuf,
        /// The classes without a image.
        classes: Vec<String>,
    },

    /// Class folders that the class map does not know.
    #[error(
        "the class folder {} of `{}` is not among the classes of the training data ({}); \
         rename it, remove it, or add the class to the training data",
        Quoted(.unknown, ", "), .path.display(), Quoted(.known, ", ")
    )]
    UnknownClasses {
        /// The folder of the split.
        path: PathBuf,
        /// The classes that are not in the map.
        unknown: Vec<String>,
        /// The classes that are.
        known: Vec<String>,
    },

    /// A class folder whose name cannot be a label.
    #[error("the name of the class folder `{}` is not valid Unicode; rename it", .path.display())]
    ClassName {
        /// The folder.
        path: PathBuf,
    },

    /// A file or folder that the operating system did not let us read or write.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// A file that is no image of a known format, or a damaged one.
    #[error("`{}` is not a image that can be decoded: {reason}; replace or remove it", .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },

    /// A file that ends before its image does.
    #[error("`{}` is truncated: the file ends before the image does; fetch it again or remove it", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },

    /// A image so large that it is an accident or an attack rather than a photograph.
    #[error(
        "`{}` has {width} × {height} pixels, above the limit of {limit}; shrink it, \
         or raise the limit (`DecodeOptions::max_pixels`)",
        .path.display()
    )]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The most pixels that are accepted.
        limit: usize,
    },

    /// A image whose decoder would need more memory than it is worth.
    #[error(
        "`{}` has {width} × {height} pixels and would take {} MiB to decode, above the limit of {} MiB; shrink it, \
         or raise the limit (`DecodeOptions::max_bytes`)",
        .path.display(), .needed >> 20, .limit >> 20
    )]
    TooMuchMemory {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The bytes that its decoder would hold at a time.
        needed: u64,
        /// The most bytes that are accepted.
        limit: u64,
    },

    /// A file too long to be a image's.
    #[error(
        "`{}` has {} MiB, above the limit of {} MiB for the file of a image; remove it, or raise the limit \
         (`DecodeOptions::max_bytes`)",
        .path.display(), .bytes >> 20, .limit >> 20
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most bytes that are accepted.
        limit: u64,
    },

    /// Every image that cannot be used, found by looking at all of them.
    #[error("{} of {checked} images cannot be used:{}", .errors.len(), Lines(.errors))]
    BadImages {
        /// One error for each image, in the order of the samples.
        errors: Vec<Error>,
        /// How many images were looked at.
        checked: usize,
    },

    /// A setting outside its range.
    #[error("{setting} is {value}, but it must be {expected}")]
    Setting {
        /// Which setting, in words.
        setting: &'static str,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },

    /// A plan for another image.
    #[error(
        "{plan:?} does not fit a image of {width} × {height}; make the plan from the image's size"
    )]
    Plan {
        /// The plan.
        plan: Plan,
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },

    /// Images that cannot be laid out together.
    #[error("cannot lay out {images} images: {reason}")]
    Grid {
        /// How many images there are.
        images: usize,
        /// What does not fit.
        reason: String,
    },

    /// A bug of ours or of a decoder: code panicked while it made a sample.
    #[error(
        "the code panicked on {what}: {message}; please report this, with the image if you can"
    )]
    Panic {
        /// The image or batch that was being made.
        what: String,
        /// The panic's message.
        message: String,
    },

    /// The operating system refused a worker thread.
    #[error(
        "cannot start a loader worker thread; use fewer workers, or 0 to load in the calling thread"
    )]
    Spawn(#[source] std::io::Error),

    /// candle could not make a tensor: out of memory, or a device that failed.
    #[error("cannot make the tensors of a batch")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// What is wrong with a image, in words without its path and without advice: for a list of images.
    pub fn reason(&self) -> String {
        match self {
            Self::Decode { reason, .. } => reason.clone(),
            Self::Truncated { .. } => "truncated: the file ends before the image does".into(),
            Self::TooManyPixels {
                width,
                height,
                limit,
                ..
            } => format!("{width} × {height} pixels, above the limit of {limit}"),
            Self::TooMuchMemory { needed, limit, .. } => format!(
                "would take {} MiB to decode, above the limit of {} MiB",
                needed >> 20,
                limit >> 20
            ),
            Self::FileTooLarge { bytes, limit, .. } => format!(
                "a file of {} MiB, above the limit of {} MiB",
                bytes >> 20,
                limit >> 20
            ),
            Self::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }
}

/// `` `a`, `b` `` with any separator.
struct Quoted<'a>(&'a [String], &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { self.1 };
            write!(f, "{separator}`{name}`")?;
        }
        Ok(())
    }
}

/// One indented line for each error, with its causes.
struct Lines<'a>(&'a [Error]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.0 {
            write!(f, "\n  {error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                write!(f, ": {inner}")?;
                cause = inner.source();
            }
        }
        Ok(())
    }
}
