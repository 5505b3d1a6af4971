//! Every file of a data set: the images that training would use, and all others with the reason why not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::report::{IgnoreReason, Ignored};
use crate::error::{Error, Result};
use crate::image_folder;

/// A image that training would use.
#[derive(Debug)]
pub(super) struct Listed {
    pub path: PathBuf,
    /// Index into [`Listing::splits`].
    pub split: usize,
    /// Index into [`Listing::classes`].
    pub class: usize,
}

/// What lies where.
#[derive(Debug)]
pub(super) struct Listing {
    root: PathBuf,
    /// The folder's name of train and of val.
    pub splits: [String; 2],
    /// All names of class folders, sorted.
    pub classes: Vec<String>,
    /// The class folders of each split, as indices into `classes`.
    pub present: [Vec<usize>; 2],
    /// In the order of split, class, folder and name.
    pub images: Vec<Listed>,
    /// Sorted by path.
    pub ignored: Vec<Ignored>,
}

impl Listing {
    /// Lists the data set in `root`.
    pub fn of(root: &Path) -> Result<Self> {
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
        let index = |name: &String| classes.binary_search(name).expect("it is one of them");

        let mut images = Vec::new();
        for (split, (folder, names)) in folders.iter().zip(&names).enumerate() {
            for name in names {
                let class = index(name);
                let found = image_folder::image_paths(folder.join(name))?.into_iter();
                images.extend(found.map(|path| Listed { path, split, class }));
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

    /// A path below the data set's folder, with forward slashes.
    pub fn shown(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    fn find_ignored(&self, folders: &[PathBuf; 2]) -> Result<Vec<Ignored>> {
        let mut walk = Walk {
            listing: self,
            used: self.images.iter().map(|it| it.path.as_path()).collect(),
            folders,
            found: Vec::new(),
        };
        walk.enter(&self.root, 0, &mut Vec::new())?;
        let mut found = walk.found;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

/// A walk over everything below the data set's folder.
struct Walk<'a> {
    listing: &'a Listing,
    used: HashSet<&'a Path>,
    folders: &'a [PathBuf; 2],
    found: Vec<Ignored>,
}

impl Walk<'_> {
    /// `level` is 0 in the data set's folder, 1 in a split, 2 and more in a class.
    fn enter(&mut self, folder: &Path, level: usize, above: &mut Vec<PathBuf>) -> Result<()> {
        let io = |source| Error::Io {
            action: "read",
            path: folder.into(),
            source,
        };
        above.push(fs::canonicalize(folder).map_err(io)?);
        for entry in fs::read_dir(folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let path = folder.join(&name);
            if name.as_encoded_bytes().starts_with(b".") {
                self.ignore(&path, IgnoreReason::Hidden);
            } else if path.is_dir() {
                if level == 0 && !self.folders.contains(&path) {
                    self.ignore(&path, IgnoreReason::NotASplit);
                } else if fs::canonicalize(&path).is_ok_and(|real| above.contains(&real)) {
                    self.ignore(&path, IgnoreReason::SymlinkLoop);
                } else if level < 2 {
                    // Training lists each class folder by itself, and looks for loops from there on.
                    self.enter(&path, level + 1, &mut Vec::new())?;
                } else {
                    self.enter(&path, level + 1, above)?;
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
        above.pop();
        Ok(())
    }

    fn ignore(&mut self, path: &Path, reason: IgnoreReason) {
        self.found.push(Ignored {
            path: self.listing.shown(path),
            reason,
            content: content(path),
        });
    }
}

/// The format of a file that is a image, whatever its name says.
fn content(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .ok()?;
    image::guess_format(&start).ok().map(super::report::named)
}
