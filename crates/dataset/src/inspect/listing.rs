//! Lists the files in a data set: the images used by training, and the ignored files with reasons.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::report::{IgnoreReason, Ignored, format_name};
use crate::error::{Error, Result};
use crate::image_folder;

/// An image used for training or validation.
#[derive(Debug)]
pub(super) struct Listed {
    pub path: PathBuf,
    /// Index into [`Listing::splits`].
    pub split: usize,
    /// Index into [`Listing::classes`].
    pub class: usize,
}

/// The used and ignored files in a data set.
#[derive(Debug)]
pub(super) struct Listing {
    root: PathBuf,
    /// Folder names of the training and validation splits, in that order.
    pub splits: [String; 2],
    /// Sorted class names of both splits.
    pub classes: Vec<String>,
    /// Class folders of each split, as indices into `classes`.
    pub present: [Vec<usize>; 2],
    /// Images, sorted by split, class, folder and name.
    pub images: Vec<Listed>,
    /// Ignored files and folders, sorted by path.
    pub ignored: Vec<Ignored>,
}

impl Listing {
    /// Lists the data set in `root`.
    pub fn scan(root: &Path) -> Result<Self> {
        let folders = [
            image_folder::train_folder(root)?,
            image_folder::val_folder(root)?,
        ];
        let names = [
            image_folder::class_folders(&folders[0])?,
            image_folder::class_folders(&folders[1])?,
        ];
        let mut classes = names.concat();
        classes.sort();
        classes.dedup();
        let index = |name: &String| {
            classes
                .binary_search(name)
                .expect("`classes` contains all names")
        };

        let mut images = Vec::new();
        for (split, (folder, names)) in folders.iter().zip(&names).enumerate() {
            for name in names {
                let class = index(name);
                let paths = image_folder::image_paths(folder.join(name))?.into_iter();
                images.extend(paths.map(|path| Listed { path, split, class }));
            }
        }
        let present = [0, 1].map(|split: usize| names[split].iter().map(index).collect());
        let mut listing = Self {
            root: root.into(),
            splits: [0, 1].map(|split: usize| {
                let name = folders[split].file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }),
            classes,
            present,
            images,
            ignored: Vec::new(),
        };
        listing.ignored = listing.find_ignored(&folders)?;
        Ok(listing)
    }

    /// Returns `path` relative to the data set, with forward slashes.
    pub fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    fn find_ignored(&self, folders: &[PathBuf; 2]) -> Result<Vec<Ignored>> {
        let mut walk = Walk {
            listing: self,
            used: self
                .images
                .iter()
                .map(|image| image.path.as_path())
                .collect(),
            folders,
            ignored: Vec::new(),
        };
        walk.enter(&self.root, 0, &mut Vec::new())?;
        let mut ignored = walk.ignored;
        ignored.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(ignored)
    }
}

/// Walks all files and folders in the data set and collects the ignored ones.
struct Walk<'a> {
    listing: &'a Listing,
    used: HashSet<&'a Path>,
    folders: &'a [PathBuf; 2],
    ignored: Vec<Ignored>,
}

impl Walk<'_> {
    /// Visits `folder`. `level` is 0 in the root folder, 1 in a split, and at least 2 in a class.
    fn enter(&mut self, folder: &Path, level: usize, parents: &mut Vec<PathBuf>) -> Result<()> {
        let io = Error::io(folder);
        parents.push(fs::canonicalize(folder).map_err(&io)?);
        for entry in fs::read_dir(folder).map_err(&io)? {
            let name = entry.map_err(&io)?.file_name();
            let path = folder.join(&name);
            if name.as_encoded_bytes().starts_with(b".") {
                self.ignore(&path, IgnoreReason::Hidden);
            } else if path.is_dir() {
                if level == 0 && !self.folders.contains(&path) {
                    self.ignore(&path, IgnoreReason::NotASplit);
                } else if fs::canonicalize(&path).is_ok_and(|real| parents.contains(&real)) {
                    self.ignore(&path, IgnoreReason::SymlinkLoop);
                } else if level < 2 {
                    // `parents` restarts in each split and class folder, because training detects
                    // loops only within a class folder.
                    self.enter(&path, level + 1, &mut Vec::new())?;
                } else {
                    self.enter(&path, level + 1, parents)?;
                }
            } else if !self.used.contains(path.as_path()) {
                let reason = match level {
                    _ if !image_folder::is_image(&path) => IgnoreReason::Extension,
                    0 => IgnoreReason::OutsideSplits,
                    _ => IgnoreReason::OutsideClasses,
                };
                self.ignore(&path, reason);
            }
        }
        parents.pop();
        Ok(())
    }

    fn ignore(&mut self, path: &Path, reason: IgnoreReason) {
        self.ignored.push(Ignored {
            path: self.listing.relative(path),
            reason,
            content: content(path),
        });
    }
}

/// Detects the image format from the first 64 bytes. Returns `None` if no format matches, or if
/// `path` is not a readable file.
fn content(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .ok()?;
    image::guess_format(&start).ok().map(format_name)
}
