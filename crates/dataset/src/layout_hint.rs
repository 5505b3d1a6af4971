//! What a folder is that does not hold the splits of a data set: for an error that says what was probably meant.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::image_folder::{self, TRAIN, VAL, is_image};

/// Names of class folders that a hint repeats.
const NAMED: usize = 3;

/// What a folder looks like in which a split was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutHint {
    /// A split, or a class folder of one.
    PartOf {
        /// The data set that it is a part of.
        root: PathBuf,
    },
    /// A folder that holds a data set, as archives often unpack.
    Around {
        /// The data set.
        root: PathBuf,
    },
    /// A data set whose split has another spelling.
    Misspelt {
        /// The name of the folder.
        found: String,
        /// The name that it should have.
        wanted: String,
    },
    /// A data set without validation images.
    TrainOnly,
    /// Class folders, not divided into splits.
    Classes {
        /// The names of some of them.
        names: Vec<String>,
    },
    /// Images, not divided into classes.
    Images,
    /// Anything else.
    Other,
}

impl LayoutHint {
    /// Looks at the folder `root`, which has none of the folders `accepted`. What cannot be read is not looked at.
    pub(crate) fn of(root: &Path, accepted: &[&str]) -> Self {
        if let Some(root) = data_set_above(root) {
            return Self::PartOf { root };
        }
        let entries = entries(root);
        for path in entries.iter().filter(|path| path.is_dir()) {
            let found = name_of(path);
            if let Some(wanted) = accepted
                .iter()
                .find(|name| found.eq_ignore_ascii_case(name))
            {
                let wanted = wanted.to_string();
                return Self::Misspelt { found, wanted };
            }
        }
        if root.join(TRAIN[0]).is_dir() {
            return Self::TrainOnly;
        }
        if let Some(root) = entries.iter().find(|path| path.join(TRAIN[0]).is_dir()) {
            return Self::Around { root: root.clone() };
        }
        let classes = entries.iter().filter(|path| contains_images(path));
        let names: Vec<String> = classes.take(NAMED).map(|path| name_of(path)).collect();
        if !names.is_empty() {
            return Self::Classes { names };
        }
        if contains_images(root) {
            return Self::Images;
        }
        Self::Other
    }
}

/// The data set of which `path` is a split or a class folder, by its name or that of the folder above.
fn data_set_above(path: &Path) -> Option<PathBuf> {
    // `.` and `..` have no names of their own.
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

/// What lies in a folder and is not hidden, sorted; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let names = image_folder::entries(folder).unwrap_or_default();
    names.iter().map(|name| folder.join(name)).collect()
}

/// What it is, and what to do, after a semicolon.
impl fmt::Display for LayoutHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartOf { root } => write!(
                f,
                "it is a part of a data set: give all of it, `{}`",
                root.display()
            ),
            Self::Around { root } => write!(f, "did you mean `{}`?", root.display()),
            Self::Misspelt { found, wanted } => {
                write!(f, "rename its folder `{found}` to `{wanted}`")
            }
            Self::TrainOnly => f.write_str(
                "move some of the train images of each class there, about one in five, to DIR/val/CLASS/…",
            ),
            Self::Classes { names } => write!(
                f,
                "its folders seem to be classes ({}): move them to DIR/train/CLASS/…, and about one in five of their \
                 images to DIR/val/CLASS/…",
                names.join(", ")
            ),
            Self::Images => f.write_str(
                "its images have no classes: move them to DIR/train/CLASS/… and DIR/val/CLASS/…",
            ),
            Self::Other => {
                f.write_str("a data set is laid out as DIR/train/CLASS/… and DIR/val/CLASS/…")
            }
        }
    }
}
