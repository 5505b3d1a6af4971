//! Drawn pictures as a folder, with a stamp that says what was written and whether it is still so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use rayon::prelude::*;

use super::{Class, Counts, Split};

/// What the stamp begins with; the number goes up with every change of the drawings.
const VERSION: &str = "drawn by waggle, version 2";

/// The stamp's name. It begins with a dot, so that no scan takes it for data.
const STAMP: &str = ".drawn";

/// What [`write`](super::write()) had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Everything was drawn and written.
    Drawn,
    /// It was there already, unchanged.
    Found,
}

/// Why the pictures could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder holds something else, which is not ours to replace.
    #[error(
        "`{}` exists, but was not written by this program; remove it, or choose another folder",
        .path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },

    /// A file or folder could not be read or written.
    #[error("cannot {doing} `{}`: {source}; is the folder writable, is the disk full?", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A picture could not be encoded.
    #[error("cannot encode `{}` as PNG: {source}", .path.display())]
    Encode {
        /// The picture's file.
        path: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
}

/// Keeps what was tried, and with which path, beside the system's error.
trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            doing,
            path: path.to_path_buf(),
            source,
        })
    }
}

pub(super) fn write(
    dir: &Path,
    classes: &[Class],
    seed: u64,
    counts: Counts,
) -> Result<Written, Error> {
    let header = header(classes, seed, counts);
    if dir.exists() {
        if is_intact(dir, &header) {
            return Ok(Written::Found);
        }
        let empty = fs::read_dir(dir).doing("read", dir)?.next().is_none();
        if !empty && !dir.join(STAMP).is_file() {
            return Err(Error::NotOurs {
                path: dir.to_path_buf(),
            });
        }
    }
    let beside = Beside::new(dir)?;
    draw(&beside.0, classes, seed, counts)?;
    let stamp = beside.0.join(STAMP);
    let text = format!("{header}{}", inventory(&beside.0)?);
    fs::write(&stamp, text).doing("write", &stamp)?;

    match put(&beside.0, dir) {
        Ok(()) => Ok(Written::Drawn),
        // Somebody else wrote the same at the same time.
        Err(_) if is_intact(dir, &header) => Ok(Written::Found),
        Err(source) => Err(source).doing("rename the new folder to", dir),
    }
}

/// What was asked for, as the stamp's first lines.
fn header(classes: &[Class], seed: u64, counts: Counts) -> String {
    let names: Vec<_> = classes.iter().map(Class::name).collect();
    format!(
        "{VERSION}\nseed {seed}\nclasses {}\ntrain {} val {}\n",
        names.join(" "),
        counts.train,
        counts.val
    )
}

fn is_intact(dir: &Path, header: &str) -> bool {
    let stamp = fs::read_to_string(dir.join(STAMP)).ok();
    let found = inventory(dir).ok();
    stamp
        .zip(found)
        .is_some_and(|(stamp, found)| stamp == format!("{header}{found}"))
}

/// The files two folders down, with their lengths: `dir/SPLIT/CLASS/FILE`, one a line, sorted.
fn inventory(dir: &Path) -> Result<String, Error> {
    let mut lines = Vec::new();
    let mut pending = vec![(dir.to_path_buf(), String::new())];
    while let Some((folder, name)) = pending.pop() {
        for entry in fs::read_dir(&folder).doing("read", &folder)? {
            let entry = entry.doing("read", &folder)?;
            let (path, file) = (entry.path(), entry.file_name());
            if file == STAMP && name.is_empty() {
                continue;
            }
            let name = format!("{name}/{}", file.to_string_lossy());
            let metadata = entry.metadata().doing("read", &path)?;
            if metadata.is_dir() {
                pending.push((path, name));
            } else {
                lines.push(format!("{} {name}\n", metadata.len()));
            }
        }
    }
    lines.sort_unstable();
    Ok(lines.concat())
}

/// Draws all pictures into `root`, in parallel: each is a function of its number alone.
fn draw(root: &Path, classes: &[Class], seed: u64, counts: Counts) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for split in Split::ALL {
        for class in classes {
            let folder = root.join(split.name()).join(class.name());
            fs::create_dir_all(&folder).doing("create", &folder)?;
            jobs.extend((0..counts.of(split)).map(|index| {
                let path = folder.join(format!("{index:03}.png"));
                (split, class, index as u64, path)
            }));
        }
    }
    jobs.into_par_iter()
        .try_for_each(|(split, class, index, path)| {
            let picture = class.picture(seed, split, index);
            let (width, height) = picture.dimensions();
            let mut bytes = Vec::new();
            PngEncoder::new(&mut bytes)
                .write_image(&picture, width, height, image::ExtendedColorType::Rgb8)
                .map_err(|source| Error::Encode {
                    path: path.clone(),
                    source,
                })?;
            fs::write(&path, bytes).doing("write", &path)
        })
}

/// A folder beside the final one, removed again unless it was renamed.
struct Beside(PathBuf);

impl Beside {
    fn new(dir: &Path) -> Result<Self, Error> {
        let path = sibling(dir, "new");
        if path.exists() {
            // Left by a process of the same number that was killed.
            fs::remove_dir_all(&path).doing("remove", &path)?;
        }
        fs::create_dir_all(&path).doing("create", &path)?;
        Ok(Self(path))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `.NAME.WHAT-PROCESS` beside `dir`.
fn sibling(dir: &Path, what: &str) -> PathBuf {
    let name = dir
        .file_name()
        .unwrap_or("drawn".as_ref())
        .to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}

/// Puts `new` in the place of `dir`.
fn put(new: &Path, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(new, dir);
    }
    let old = sibling(dir, "old");
    fs::rename(dir, &old)?;
    fs::rename(new, dir).inspect_err(|_| {
        let _ = fs::rename(&old, dir);
    })?;
    fs::remove_dir_all(&old)
}
