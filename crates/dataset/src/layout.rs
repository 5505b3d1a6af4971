//! What a folder is that does not hold the splits of a data set: for an error that says what was probably meant.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::image_folder::{TRAIN, VAL, is_picture};

/// Names of class folders that a hint repeats.
const NAMED: usize = 3;

/// What a folder looks like in which a split was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
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
    /// A data set without validation pictures.
    TrainOnly,
    /// Class folders, not divided into splits.
    Classes {
        /// The names of some of them.
        names: Vec<String>,
    },
    /// Pictures, not divided into classes.
    Pictures,
    /// Anything else.
    Other,
}

impl Layout {
    /// Looks at the folder `root`. What cannot be read is not looked at.
    pub fn of(root: &Path) -> Self {
        if let Some(root) = data_set_above(root) {
            return Self::PartOf { root };
        }
        if root.join(TRAIN[0]).is_dir() {
            return Self::TrainOnly;
        }
        let entries = entries(root);
        if let Some(root) = entries.iter().find(|path| path.join(TRAIN[0]).is_dir()) {
            return Self::Around { root: root.clone() };
        }
        let classes = entries.iter().filter(|path| holds_pictures(path));
        let names: Vec<String> = classes
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .take(NAMED)
            .collect();
        if !names.is_empty() {
            return Self::Classes { names };
        }
        if holds_pictures(root) {
            return Self::Pictures;
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

fn holds_pictures(folder: &Path) -> bool {
    let mut entries = entries(folder).into_iter();
    entries.any(|path| is_picture(&path) && path.is_file())
}

/// What lies in a folder and is not hidden, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = visible.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A sentence that says what to do, after a full stop; nothing where nothing is known.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartOf { root } => {
                write!(f, ". This is a part of a data set: give all of it, `{}`", root.display())
            }
            Self::Around { root } => write!(f, ". Did you mean `{}`?", root.display()),
            Self::TrainOnly => f.write_str(
                ". Move some of the train pictures of each class there, about one in five",
            ),
            Self::Classes { names } => write!(
                f,
                ". These seem to be classes: {}; put their folders into `train`, and some of the pictures of each \
                 into a folder of the same name in `val`",
                names.join(", ")
            ),
            Self::Pictures => f.write_str(
                ". Here are pictures without a class: put those of each class into a folder of its own",
            ),
            Self::Other => Ok(()),
        }
    }
}
