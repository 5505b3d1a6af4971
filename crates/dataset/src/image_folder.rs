//! A folder of class folders as a list of labeled images, in torchvision's order.
//!
//! Follows `torchvision/datasets/folder.py`: classes are the immediate subfolders, sorted by code point; images
//! are found recursively, links followed, sorted by folder and then by name; the extension decides what counts.
//! Three differences, on purpose: names that begin with a dot are skipped, a link back to a folder above itself is
//! not followed, and one class map, made from the training split, serves every split.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout_hint::LayoutHint;

/// The extensions that count as images, in any case: torchvision's list, which has no `gif`.
pub const EXTENSIONS: [&str; 9] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];

/// The accepted names of the training split.
pub(crate) const TRAIN: [&str; 1] = ["train"];
/// The accepted names of the validation split; the first that exists is taken.
pub(crate) const VAL: [&str; 3] = ["val", "valid", "validation"];

/// A image's file and the index of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Index into [`ImageFolder::classes`].
    pub label: u32,
}

/// The labeled images of one split: paths, no pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    samples: Vec<Sample>,
}

impl ImageFolder {
    /// The images under `root/CLASS/`, with the class folders as class map.
    ///
    /// # Errors
    ///
    /// No such folder, no class folder, class folders without a image, or a folder that cannot be read.
    pub fn scan(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let classes = class_folders(root)?;
        Self::collect(root, &classes, &classes)
    }

    /// The images under `root/CLASS/`, labeled by the class map `classes`: that of training, or of a model.
    ///
    /// A class without a folder keeps its index and has no images.
    ///
    /// # Errors
    ///
    /// Those of [`scan`](Self::scan), and a class folder that is not in `classes`.
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
                known: classes.to_vec(),
            });
        }
        Self::collect(root, &present, classes)
    }

    /// The training and the validation split of the data set in `root`: `root/train`, and `root/val`, `root/valid`
    /// or `root/validation`. The class map of training serves both.
    ///
    /// # Errors
    ///
    /// Those of [`scan`](Self::scan) and [`scan_with_classes`](Self::scan_with_classes), and a missing split.
    pub fn train_and_val(root: impl AsRef<Path>) -> Result<(Self, Self)> {
        let root = root.as_ref();
        let (train, val) = (split(root, &TRAIN)?, split(root, &VAL)?);
        let train = Self::scan(train)?;
        let val = Self::scan_with_classes(val, &train.classes)?;
        Ok((train, val))
    }

    /// The same without the samples of these indices. A class may lose all its images; it keeps its index.
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

    /// The folder that holds the class folders.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the classes; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, class by class, in the order of folder and name.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How many images there are; never 0 in a folder that was scanned.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a folder without images is an error"
    )]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// How many images each class has.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label as usize] += 1;
        }
        counts
    }

    /// Lists the images of the class folders `present`, which are all in the class map `classes`.
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

/// The folder of the validation split of the data set in `root`: `val`, `valid` or `validation`.
///
/// # Errors
///
/// No such data set, or none of the three.
pub fn val_folder(root: impl AsRef<Path>) -> Result<PathBuf> {
    split(root.as_ref(), &VAL)
}

/// The folder of the training split of the data set in `root`: `train`.
///
/// # Errors
///
/// No such data set, or no such split.
pub fn train_folder(root: impl AsRef<Path>) -> Result<PathBuf> {
    split(root.as_ref(), &TRAIN)
}

/// Whether the name ends in one of the [`EXTENSIONS`].
pub fn is_image(path: impl AsRef<Path>) -> bool {
    let extension = path
        .as_ref()
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|given| {
        EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(given))
    })
}

/// Every image under a folder, recursively, in torchvision's order: by folder, then by name.
///
/// # Errors
///
/// A folder that does not exist or cannot be read.
pub fn image_paths(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::NoFolder {
            path: folder.into(),
        });
    }
    let mut found = Vec::new();
    walk(folder, OsString::new(), &mut Vec::new(), &mut found)?;
    // Python sorts the folders as strings, where `a-b` comes before `a/b`; comparing paths part by part would not.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}

/// Adds `folder` and all below it to `found`, each as its name relative to the start and the images in it.
fn walk(
    folder: &Path,
    name: OsString,
    above: &mut Vec<PathBuf>,
    found: &mut Vec<(OsString, Vec<PathBuf>)>,
) -> Result<()> {
    // A link to a folder above would make the walk endless.
    let real = fs::canonicalize(folder).map_err(|source| cannot_read(folder, source))?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    let mut files = Vec::new();
    for entry in entries(folder)? {
        let path = folder.join(&entry);
        if path.is_dir() {
            let mut child = name.clone();
            child.push("/");
            child.push(&entry);
            walk(&path, child, above, found)?;
        } else if is_image(&path) {
            files.push(path);
        }
    }
    found.push((name, files));
    above.pop();
    Ok(())
}

/// The names of the class folders in `root`, sorted.
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

/// The names in a folder, sorted by code point, without those that begin with a dot.
pub(crate) fn entries(folder: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| cannot_read(folder, source))? {
        let name = entry
            .map_err(|source| cannot_read(folder, source))?
            .file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    // UTF-8 bytes sort as code points do.
    names.sort();
    Ok(names)
}

fn split(root: &Path, accepted: &[&str]) -> Result<PathBuf> {
    if !root.is_dir() {
        return Err(Error::NoFolder { path: root.into() });
    }
    let found = accepted
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.is_dir());
    found.ok_or_else(|| Error::NoSplit {
        path: root.into(),
        hint: LayoutHint::of(root, accepted),
        accepted: accepted.iter().map(|&name| name.to_owned()).collect(),
    })
}

fn cannot_read(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action: "read",
        path: path.into(),
        source,
    }
}
