//! Lists labeled images from a folder of class folders, in torchvision's order.
//!
//! Follows `torchvision/datasets/folder.py`. Classes are the immediate subfolders, sorted by code
//! point. Images are found recursively by their extension, following symbolic links, and sorted by
//! folder and then by name.
//!
//! There are three differences. Names that begin with a dot are skipped. Within a class folder, a
//! link to a parent folder is not followed. All splits share the class map of the training split.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout::{self, TRAIN, VAL};
pub use crate::layout::{EXTENSIONS, is_image};
use crate::layout_hint::LayoutHint;

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
}

impl ImageFolder {
    /// Lists the images under `root/CLASS/`. The sorted names of the class folders are the class
    /// map.
    ///
    /// # Errors
    ///
    /// Returns an error if `root` is not a folder or has no class folders, if a class folder has no
    /// images or a name that is not valid Unicode, or if a folder cannot be read.
    pub fn scan(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let classes = class_folders(root)?;
        Self::collect(root, &classes, &classes)
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
        let present = class_folders(root)?;
        let unknown: Vec<String> = present
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
        Self::collect(root, &present, classes)
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
        }
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

    /// Lists the images of the class folders `present`, a subset of the class map `classes`.
    fn collect(root: &Path, present: &[String], classes: &[String]) -> Result<Self> {
        let mut samples = Vec::new();
        let mut empty = Vec::new();
        for (label, class) in (0..).zip(classes) {
            if !present.contains(class) {
                continue;
            }
            let files = image_paths(root.join(class))?;
            if files.is_empty() {
                empty.push(class.clone());
            }
            samples.extend(files.into_iter().map(|path| Sample { path, label }));
        }
        if !empty.is_empty() {
            return Err(Error::EmptyClasses {
                path: root.into(),
                classes: empty,
            });
        }
        Ok(Self {
            root: root.into(),
            classes: classes.to_vec(),
            samples,
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

/// Lists the images under `folder` recursively, in torchvision's order: by folder, then by name.
/// Skips names that begin with a dot.
///
/// # Errors
///
/// Returns an error if `folder` is not a folder, or if it or a subfolder cannot be read.
pub fn image_paths(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::NoFolder {
            path: folder.into(),
        });
    }
    let mut folders = Vec::new();
    walk(folder, OsString::new(), &mut Vec::new(), &mut folders)?;
    // Python sorts the folders as strings, where `a-b` comes before `a/b`. `Path` compares by
    // component.
    folders.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(folders.into_iter().flat_map(|(_, files)| files).collect())
}

/// Appends `folder` and its subfolders to `folders`. An entry holds the folder's path relative to
/// the starting folder (`name` for `folder`) and the paths of the images directly in it.
fn walk(
    folder: &Path,
    name: OsString,
    parents: &mut Vec<PathBuf>,
    folders: &mut Vec<(OsString, Vec<PathBuf>)>,
) -> Result<()> {
    // A link to a parent folder would recurse forever.
    let real = fs::canonicalize(folder).map_err(Error::io(folder))?;
    if parents.contains(&real) {
        return Ok(());
    }
    parents.push(real);
    let mut files = Vec::new();
    for entry in entries(folder)? {
        let path = folder.join(&entry);
        if path.is_dir() {
            let mut child = name.clone();
            child.push("/");
            child.push(&entry);
            walk(&path, child, parents, folders)?;
        } else if is_image(&path) {
            files.push(path);
        }
    }
    folders.push((name, files));
    parents.pop();
    Ok(())
}

/// Returns the sorted names of the class folders in `root`.
pub(crate) fn class_folders(root: &Path) -> Result<Vec<String>> {
    if !root.is_dir() {
        return Err(Error::NoFolder { path: root.into() });
    }
    let folders = entries(root)?
        .into_iter()
        .filter(|name| root.join(name).is_dir());
    let classes = folders
        .map(|name| {
            name.into_string().map_err(|name| Error::ClassName {
                path: root.join(name),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if classes.is_empty() {
        return Err(Error::NoClasses { path: root.into() });
    }
    Ok(classes)
}

/// Returns the names of the visible entries of `folder`, sorted by code point.
fn entries(folder: &Path) -> Result<Vec<OsString>> {
    layout::visible_names(folder).map_err(Error::io(folder))
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
