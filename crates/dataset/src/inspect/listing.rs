//! Lists the files in a data set: the images used by training, and the ignored files with reasons.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::report::{Ignored, format_name};
use crate::error::Result;
use crate::image_folder::{self, IgnoreReason, SplitEntries, Unused};
use crate::path_text;
use crate::walk::{self, Entry, EntryKind};

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
        let entries = [
            SplitEntries::list(&folders[0])?,
            SplitEntries::list(&folders[1])?,
        ];
        let mut classes = [&entries[0].classes[..], &entries[1].classes].concat();
        classes.sort();
        classes.dedup();
        let index = |name: &String| {
            classes
                .binary_search(name)
                .expect("`classes` contains all names")
        };

        let mut images = Vec::new();
        let mut unused = outside_splits(root, &folders)?;
        for (split, (folder, entries)) in folders.iter().zip(&entries).enumerate() {
            unused.extend_from_slice(&entries.unused);
            for name in &entries.classes {
                let class = index(name);
                let files = walk::files(&folder.join(name))?;
                let paths = files.images.into_iter();
                images.extend(paths.map(|path| Listed { path, split, class }));
                unused.extend(files.unused);
            }
        }
        let present = [0, 1].map(|split: usize| entries[split].classes.iter().map(index).collect());
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
        listing.ignore(unused);
        listing.ignored.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// Returns `path` relative to the data set, as [`path_text::relative`] does.
    pub fn relative(&self, path: &Path) -> String {
        path_text::relative(&self.root, path)
    }

    fn ignore(&mut self, unused: impl IntoIterator<Item = Unused>) {
        for Unused { path, reason } in unused {
            self.ignored.push(Ignored {
                path: self.relative(&path),
                reason,
                content: content(&path),
            });
        }
    }
}

/// The entries of the data set `root` that are not one of the splits `folders`.
fn outside_splits(root: &Path, folders: &[PathBuf; 2]) -> Result<Vec<Unused>> {
    let entries = walk::entries(root)?.into_iter();
    let entries = entries.filter(|entry| !folders.contains(&entry.path));
    let unused = entries.map(|Entry { path, kind }| Unused {
        path,
        reason: match kind {
            EntryKind::Folder { .. } => IgnoreReason::NotASplit,
            EntryKind::Image => IgnoreReason::OutsideSplits,
            EntryKind::Ignored(reason) => reason,
        },
    });
    Ok(unused.collect())
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
