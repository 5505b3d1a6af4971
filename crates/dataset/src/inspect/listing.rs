//! Lists the files in a data set: the images used by training, and the ignored files with reasons.

use std::path::{Path, PathBuf};

use super::report::{Ignored, MostlyUnused};
use crate::error::Result;
use crate::image_folder::{self, SplitEntries};
use crate::path_text;
use crate::unused::{self, IgnoreReason, KindCount, Unused, count_kinds};
use crate::walk::{self, Entry, EntryKind, Files};

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
    /// Unused files in each split, by kind.
    pub unused: [Vec<KindCount>; 2],
    /// Class folders with more unused than used images.
    pub mostly_unused: Vec<MostlyUnused>,
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
        let mut unused = [entries[0].unused.clone(), entries[1].unused.clone()];
        let mut mostly_unused = Vec::new();
        for (split, (folder, entries)) in folders.iter().zip(&entries).enumerate() {
            for name in &entries.classes {
                let class = index(name);
                let folder = folder.join(name);
                let files = walk::files(&folder)?;
                mostly_unused.extend(MostlyUnused::of(root, &folder, &files));
                let paths = files.images.into_iter();
                images.extend(paths.map(|path| Listed { path, split, class }));
                unused[split].extend(files.unused);
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
            unused: [0, 1].map(|split: usize| count_kinds(&unused[split])),
            mostly_unused,
            ignored: Vec::new(),
        };
        listing.ignore(outside_splits(root, &folders)?);
        listing.ignore(unused.into_iter().flatten());
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
                // Opening a pipe would release a process that waits to write to it.
                content: (reason != IgnoreReason::NotAFile)
                    .then(|| unused::kind(&path).ok().map(|kind| kind.name()))
                    .flatten(),
            });
        }
    }
}

impl MostlyUnused {
    /// The finding about the class folder `folder` with `files`, if it has more unused than used images.
    fn of(root: &Path, folder: &Path, files: &Files) -> Option<Self> {
        let mut unused = count_kinds(&files.unused);
        unused.retain(|count| count.is_image);
        let unused_images: usize = unused.iter().map(|count| count.files).sum();
        (unused_images > files.images.len()).then(|| Self {
            folder: path_text::relative(root, folder),
            images: files.images.len(),
            unused,
        })
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
