//! Guesses the layout of a folder that lacks a split, so that the error can suggest a fix.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::layout::{TRAIN, VAL, is_image, visible_names};

/// Maximum number of class names in a hint.
const MAX_NAMES: usize = 3;

/// The layout of a folder in which a split is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutHint {
    /// The folder is a split of a data set, or a class folder of a split.
    PartOf {
        /// Root folder of the data set.
        root: PathBuf,
    },
    /// The data set is in a subfolder, as after unpacking some archives.
    Nested {
        /// Root folder of the data set.
        root: PathBuf,
    },
    /// A subfolder's name differs from the split's name only in case.
    WrongCase {
        /// Name of the subfolder.
        actual: String,
        /// Name of the split.
        expected: String,
    },
    /// The folder has a training split but no validation split.
    TrainOnly,
    /// The folder contains class folders without splits.
    Classes {
        /// Names of the first class folders, at most three.
        names: Vec<String>,
    },
    /// The folder contains images without classes.
    Images,
    /// None of the above.
    Other,
}

impl LayoutHint {
    /// Inspects `root`, which has none of the folders `accepted`. Unreadable folders are ignored.
    pub(crate) fn detect(root: &Path, accepted: &[&str]) -> Self {
        if let Some(root) = data_set_above(root) {
            return Self::PartOf { root };
        }
        let entries = entries(root);
        for path in entries.iter().filter(|path| path.is_dir()) {
            let actual = name_of(path);
            if let Some(expected) = accepted
                .iter()
                .find(|name| actual.eq_ignore_ascii_case(name))
            {
                let expected = expected.to_string();
                return Self::WrongCase { actual, expected };
            }
        }
        if root.join(TRAIN[0]).is_dir() {
            return Self::TrainOnly;
        }
        if let Some(root) = entries.iter().find(|path| path.join(TRAIN[0]).is_dir()) {
            return Self::Nested { root: root.clone() };
        }
        let classes = entries.iter().filter(|path| contains_images(path));
        let names: Vec<String> = classes.take(MAX_NAMES).map(|path| name_of(path)).collect();
        if !names.is_empty() {
            return Self::Classes { names };
        }
        if contains_images(root) {
            return Self::Images;
        }
        Self::Other
    }
}

/// Returns the root of the data set that has `path` as a split or class folder, judging by the
/// folder names.
fn data_set_above(path: &Path) -> Option<PathBuf> {
    // `.` and `..` have no file name.
    let path = match path.file_name() {
        Some(_) => path.to_path_buf(),
        None => path.canonicalize().ok()?,
    };
    let is_split = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| TRAIN.contains(&name) || VAL.contains(&name))
    };
    let above = path.ancestors().take(2).find(is_split)?.parent()?;
    let root = match above.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => above.to_path_buf(),
    };
    root.join(TRAIN[0]).is_dir().then_some(root)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn contains_images(folder: &Path) -> bool {
    let mut entries = entries(folder).into_iter();
    entries.any(|path| is_image(&path) && path.is_file())
}

/// Returns the sorted paths of the entries that are not hidden, or none if `folder` is unreadable.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let names = visible_names(folder).unwrap_or_default();
    names.iter().map(|name| folder.join(name)).collect()
}

/// Displays a suggestion for fixing the layout.
impl fmt::Display for LayoutHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartOf { root } => {
                write!(f, "use the whole data set, `{}`", root.display())
            }
            Self::Nested { root } => write!(f, "did you mean `{}`?", root.display()),
            Self::WrongCase { actual, expected } => write!(f, "rename `{actual}` to `{expected}`"),
            Self::TrainOnly => f.write_str(
                "move about one in five training images of each class to DIR/val/CLASS/…",
            ),
            Self::Classes { names } => write!(
                f,
                "the folders look like classes ({}): move them to DIR/train/CLASS/… and about one \
                 in five of their images to DIR/val/CLASS/…",
                names
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Self::Images => f.write_str(
                "sort the images into class folders: DIR/train/CLASS/… and DIR/val/CLASS/…",
            ),
            Self::Other => {
                f.write_str("arrange the data set as DIR/train/CLASS/… and DIR/val/CLASS/…")
            }
        }
    }
}
