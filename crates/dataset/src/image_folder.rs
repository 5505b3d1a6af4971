//! Lists labeled images from a folder of class folders, in torchvision's order.
//!
//! Follows `torchvision/datasets/folder.py`. Classes are the immediate subfolders, sorted by code
//! point. Images are found recursively by their extension, following symbolic links, and sorted by
//! folder and then by name.
//!
//! There are five differences. [`EXTENSIONS`] has the other extensions of the same formats: `jfif`,
//! `jpe`, `apng`, `pbm` and `pnm`. Hidden names are skipped: those that begin with a dot, `Thumbs.db`,
//! `desktop.ini` and `__MACOSX`. Within a class folder, each folder is listed once, with its direct
//! path rather than that of a link, and a link to a folder that contains it is not followed. A folder
//! that is in two classes, through a link, is an error. All splits share the class map of the training
//! split.
//!
//! A link to an image file is an image of its own, as in torchvision. So two links to one file are
//! two images, like two copies of the file; [`inspect()`](crate::inspect()) reports them as
//! duplicates.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use crate::layout::{EXTENSIONS, is_image};
use crate::layout::{TRAIN, VAL};
use crate::layout_hint::LayoutHint;
pub use crate::unused::{IgnoreReason, KindCount, Unused, count_kinds};
use crate::walk::{self, Entry, EntryKind, Folder, FolderId, folder_id};
pub use crate::walk::{Files, files};

/// An image file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Path of the image file, including the scanned root. With
    /// [`LoaderConfig::decode_with`](crate::LoaderConfig::decode_with), any identifier.
    pub path: PathBuf,
    /// Index into [`ImageFolder::classes`].
    pub label: u32,
}

/// The labeled image files of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    samples: Vec<Sample>,
    unused: Vec<Unused>,
    /// The root, and the folders that contain images.
    folders: Vec<Folder>,
}

impl ImageFolder {
    /// Lists the images under `root/CLASS/`. The sorted names of the class folders are the class
    /// map.
    ///
    /// # Errors
    ///
    /// Returns an error if `root` is not a folder or has no class folders, if a class folder has no
    /// images or a name that is not valid Unicode, if a folder with images is in two classes, if a
    /// folder cannot be read, or if folders are nested more than 64 levels deep.
    pub fn scan(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let entries = SplitEntries::list(root)?;
        let classes = entries.classes.clone();
        Self::collect(root, entries, &classes)
    }

    /// Lists the images under `root/CLASS/` with the class map `classes` of the training split or
    /// of a model.
    ///
    /// A class without a folder keeps its index and has no images.
    ///
    /// # Errors
    ///
    /// Returns an error in the cases of [`scan`](Self::scan), and if a class folder is not in
    /// `classes`.
    pub fn scan_with_classes(root: impl AsRef<Path>, classes: &[String]) -> Result<Self> {
        let root = root.as_ref();
        let entries = SplitEntries::list(root)?;
        let unknown: Vec<String> = entries
            .classes
            .iter()
            .filter(|class| !classes.contains(class))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(Error::UnknownClasses {
                path: root.into(),
                unknown,
                classes: classes.to_vec(),
            });
        }
        Self::collect(root, entries, classes)
    }

    /// Lists the training and validation splits of the data set in `root`.
    ///
    /// The folders are `root/train`, and `root/val`, `root/valid` or `root/validation`. Both splits
    /// use the class map of the training split.
    ///
    /// # Errors
    ///
    /// Returns an error if `root` or a split does not exist, and in the cases of
    /// [`scan`](Self::scan) and [`scan_with_classes`](Self::scan_with_classes).
    pub fn train_and_val(root: impl AsRef<Path>) -> Result<(Self, Self)> {
        let root = root.as_ref();
        let (train, val) = (split(root, &TRAIN)?, split(root, &VAL)?);
        let train = Self::scan(train)?;
        let val = Self::scan_with_classes(val, &train.classes)?;
        Ok((train, val))
    }

    /// Returns a copy without the samples at `indices`. A class without images keeps its index.
    #[must_use]
    pub fn without(&self, indices: &[usize]) -> Self {
        let samples = self.samples.iter().enumerate();
        let kept = samples.filter(|(index, _)| !indices.contains(index));
        Self {
            root: self.root.clone(),
            classes: self.classes.clone(),
            samples: kept.map(|(_, sample)| sample.clone()).collect(),
            unused: self.unused.clone(),
            folders: self.folders.clone(),
        }
    }

    /// The paths in `self` and in `other` of a folder whose images are in both, because a split, a
    /// class folder or a folder in it is a link.
    pub fn shared_folder<'a>(&'a self, other: &'a Self) -> Option<[&'a Path; 2]> {
        let paths = other
            .folders
            .iter()
            .map(|folder| (&folder.id, &folder.path));
        let paths: HashMap<_, _> = paths.collect();
        let mut folders = self.folders.iter();
        folders.find_map(|folder| Some([folder.path.as_path(), paths.get(&folder.id)?.as_path()]))
    }

    /// The folder that contains the class folders.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The class names. A label is an index into this list.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, sorted by label, folder and name.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The files that are not used, and folders that were not visited, with the reason. Sorted by
    /// class, then by path, after those outside of the class folders.
    pub fn unused(&self) -> &[Unused] {
        &self.unused
    }

    /// Number of images. At least 1 after a scan.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a folder without images is an error"
    )]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Number of images per class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label as usize] += 1;
        }
        counts
    }

    /// Lists the images of the class folders in `entries`, a subset of the class map `classes`.
    fn collect(root: &Path, entries: SplitEntries, classes: &[String]) -> Result<Self> {
        let (present, mut unused) = (entries.classes, entries.unused);
        let mut samples = Vec::new();
        let (mut empty, mut unused_in_empty) = (Vec::new(), Vec::new());
        let mut folders = vec![Folder {
            path: root.into(),
            id: folder_id(root).map_err(Error::io(root))?,
        }];
        let mut paths: HashMap<FolderId, PathBuf> = HashMap::new();
        for (label, class) in (0..).zip(classes) {
            if !present.contains(class) {
                continue;
            }
            let files = files(root.join(class))?;
            if files.images.is_empty() {
                empty.push(class.clone());
                unused_in_empty.extend_from_slice(&files.unused);
            }
            unused.extend(files.unused);
            for Folder { path, id } in &files.folders {
                if let Some(first) = paths.insert(id.clone(), path.clone()) {
                    return Err(Error::SharedFolder {
                        paths: [first, path.clone()],
                    });
                }
            }
            folders.extend(files.folders);
            let images = files.images.into_iter();
            samples.extend(images.map(|path| Sample { path, label }));
        }
        if !empty.is_empty() {
            return Err(Error::EmptyClasses {
                path: root.into(),
                classes: empty,
                unused: count_kinds(&unused_in_empty),
            });
        }
        Ok(Self {
            root: root.into(),
            classes: classes.to_vec(),
            samples,
            unused,
            folders,
        })
    }
}

/// Finds the validation split of the data set in `root`: `val`, `valid` or `validation`.
///
/// # Errors
///
/// Returns an error if `root` or the split does not exist.
pub fn val_folder(root: impl AsRef<Path>) -> Result<PathBuf> {
    split(root.as_ref(), &VAL)
}

/// Finds the training split of the data set in `root`: `train`.
///
/// # Errors
///
/// Returns an error if `root` or the split does not exist.
pub fn train_folder(root: impl AsRef<Path>) -> Result<PathBuf> {
    split(root.as_ref(), &TRAIN)
}

/// Lists the images under `folder` recursively, as [`files`] does.
///
/// # Errors
///
/// Returns an error in the cases of [`files`].
pub fn image_paths(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    Ok(files(folder)?.images)
}

/// The entries of a split's folder.
pub(crate) struct SplitEntries {
    /// Names of the class folders, sorted by code point.
    pub classes: Vec<String>,
    /// The other entries, sorted by path.
    pub unused: Vec<Unused>,
}

impl SplitEntries {
    /// Lists the class folders and the other entries in `root`.
    ///
    /// # Errors
    ///
    /// Returns an error if `root` is not a folder, cannot be read or has no class folders, or if the
    /// name of a class folder is not valid Unicode.
    pub fn list(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::NoFolder { path: root.into() });
        }
        let (mut classes, mut unused) = (Vec::new(), Vec::new());
        for Entry { path, kind } in walk::entries(root)? {
            let reason = match kind {
                EntryKind::Folder { is_link } if is_link && walk::is_loop(&path) => {
                    IgnoreReason::SymlinkLoop
                }
                EntryKind::Folder { .. } => {
                    match path.file_name().and_then(|name| name.to_str()) {
                        Some(name) => classes.push(name.to_owned()),
                        None => return Err(Error::ClassName { path }),
                    }
                    continue;
                }
                EntryKind::Image => IgnoreReason::OutsideClasses,
                EntryKind::Ignored(reason) => reason,
            };
            unused.push(Unused { path, reason });
        }
        if classes.is_empty() {
            return Err(Error::NoClasses { path: root.into() });
        }
        Ok(Self { classes, unused })
    }
}

fn split(root: &Path, accepted: &[&str]) -> Result<PathBuf> {
    if !root.is_dir() {
        return Err(Error::NoFolder { path: root.into() });
    }
    let folder = accepted
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.is_dir());
    folder.ok_or_else(|| Error::NoSplit {
        path: root.into(),
        hint: LayoutHint::detect(root, accepted),
        accepted: accepted.iter().map(|&name| name.to_owned()).collect(),
    })
}
