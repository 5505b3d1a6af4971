//! Writes drawings to a directory, with a stamp file that lists their sizes to detect changes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use tempfile::TempDir;

use crate::class::{Class, Counts, Split};

/// First line of the stamp file. The number increases with every change of the drawings.
const VERSION: &str = "drawn by waggle, version 2";

/// Name of the stamp file. Scans of data sets ignore names that begin with a dot.
pub const STAMP: &str = ".drawn";

/// Result of [`write`](crate::write()) and [`write_classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The images were drawn and written.
    Drawn,
    /// The directory already contained the images, or another process wrote them at the same time.
    UpToDate,
}

/// An error returned by [`write`](crate::write()) or [`write_classes`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is not empty and has no stamp file, so it is not replaced.
    #[error("`{}` is not empty and does not contain a sample written by waggle", .path.display())]
    UnknownDirectory {
        /// Path of the directory.
        path: PathBuf,
    },

    /// The directory was written by this crate, but has another file in it, so it is not replaced.
    #[error("`{}` is not part of the sample that contains it", .path.display())]
    UnknownFile {
        /// Path of the file.
        path: PathBuf,
    },

    /// A file or directory cannot be read or written.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// The failed operation, such as `write` or `create a directory in`.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The underlying I/O error.
        source: io::Error,
    },

    /// An image cannot be encoded.
    #[error("cannot encode `{}` as PNG", .path.display())]
    Encode {
        /// Path of the image.
        path: PathBuf,
        /// The underlying encoder error.
        source: image::ImageError,
    },
}

impl Error {
    /// Suggests a fix, if one is known.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::UnknownDirectory { .. } => "remove the directory, or move it",
            Self::UnknownFile { .. } => "move the file to a data set of your own",
            Self::Io { .. } => "check that the directory is writable and that the disk is not full",
            Self::Encode { .. } => return None,
        };
        Some(help.to_string())
    }
}

/// Adds the failed operation and its path to an I/O error.
trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}

/// Writes `counts` images of each of `classes`, such as [`PRETRAINING`](crate::PRETRAINING), to
/// `dir/SPLIT/CLASS/NNN.png`, unless `dir` already contains them unchanged.
///
/// A stamp file in `dir` lists the version of the drawings, the seed, the classes, the counts, and
/// the size and path of each image. If the stamp file does not match or `dir` is empty, `dir` is
/// replaced. The images are written to a temporary directory next to `dir` and then renamed, so
/// `dir` never contains only some of them.
///
/// # Errors
///
/// Returns [`Error::UnknownDirectory`] if `dir` is not empty and has no stamp file,
/// [`Error::UnknownFile`] if `dir` would be replaced but contains a file that is not in the stamp file
/// and whose name does not begin with a dot, [`Error::Encode`] if an image cannot be encoded, and [`Error::Io`] if a file or directory cannot
/// be read, created, written or renamed.
pub fn write_classes(
    dir: impl AsRef<Path>,
    classes: &[Class],
    seed: u64,
    counts: Counts,
) -> Result<Written, Error> {
    let dir = dir.as_ref();
    let header = header(classes, seed, counts);
    if dir.exists() {
        if is_intact(dir, &header) {
            return Ok(Written::UpToDate);
        }
        let empty = fs::read_dir(dir).context("read", dir)?.next().is_none();
        if !empty && !dir.join(STAMP).is_file() {
            return Err(Error::UnknownDirectory {
                path: dir.to_path_buf(),
            });
        }
        if let Some(path) = unknown_file(dir)? {
            return Err(Error::UnknownFile { path });
        }
    }
    let temporary = temporary_dir(dir)?;
    let new = temporary.path().join("new");
    draw(&new, classes, seed, counts)?;
    let stamp = new.join(STAMP);
    let text = format!("{header}{}", inventory(&new)?);
    fs::write(&stamp, text).context("write", &stamp)?;

    match replace(dir, &new, &temporary.path().join("old")) {
        Ok(()) => Ok(Written::Drawn),
        // Another process wrote the same images concurrently.
        Err(_) if is_intact(dir, &header) => Ok(Written::UpToDate),
        Err(source) => Err(source).context("rename the new directory to", dir),
    }
}

/// The first lines of the stamp file: version, seed, classes and counts.
fn header(classes: &[Class], seed: u64, counts: Counts) -> String {
    let names: Vec<_> = classes.iter().map(Class::name).collect();
    format!(
        "{VERSION}\nseed {seed}\nclasses {}\ntrain {} val {}\n",
        names.join(" "),
        counts.train,
        counts.val
    )
}

/// Whether the stamp file in `dir` matches `header` and the sizes and paths of the other files.
fn is_intact(dir: &Path, header: &str) -> bool {
    let stamp = fs::read_to_string(dir.join(STAMP)).ok();
    let files = inventory(dir).ok();
    stamp
        .zip(files)
        .is_some_and(|(stamp, files)| stamp == format!("{header}{files}"))
}

/// The first file in `dir` that the stamp file does not list, whatever its size. Hidden files, which
/// file managers write, do not count.
fn unknown_file(dir: &Path) -> Result<Option<PathBuf>, Error> {
    // A line is a size and a path. Sizes contain no spaces.
    let name = |line: &str| line.split_once(' ').map(|(_, name)| name.to_string());
    let stamp = fs::read_to_string(dir.join(STAMP)).unwrap_or_default();
    let listed: BTreeSet<String> = stamp.lines().filter_map(name).collect();
    let inventory = inventory(dir)?;
    let mut names = inventory.lines().filter_map(name);
    let unknown = names.find(|name| !listed.contains(name) && !name.contains("/."));
    Ok(unknown.map(|name| dir.join(name.trim_start_matches('/'))))
}

/// The size and path of each file in `dir`, except the stamp file, as sorted lines.
fn inventory(dir: &Path) -> Result<String, Error> {
    let mut lines = Vec::new();
    let mut pending = vec![(dir.to_path_buf(), String::new())];
    while let Some((folder, name)) = pending.pop() {
        for entry in fs::read_dir(&folder).context("read", &folder)? {
            let entry = entry.context("read", &folder)?;
            let (path, file) = (entry.path(), entry.file_name());
            if file == STAMP && name.is_empty() {
                continue;
            }
            let name = format!("{name}/{}", file.to_string_lossy());
            let metadata = entry.metadata().context("read", &path)?;
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

/// Draws all images in parallel and writes them to `root`.
fn draw(root: &Path, classes: &[Class], seed: u64, counts: Counts) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for split in Split::ALL {
        for class in classes {
            let folder = root.join(split.name()).join(class.name());
            fs::create_dir_all(&folder).context("create", &folder)?;
            jobs.extend((0..counts.of(split)).map(|index| {
                let path = folder.join(format!("{index:03}.png"));
                (split, class, index as u64, path)
            }));
        }
    }
    jobs.into_par_iter()
        .try_for_each(|(split, class, index, path)| {
            let image = class.image(seed, split, index);
            let (width, height) = image.dimensions();
            let mut bytes = Vec::new();
            PngEncoder::new(&mut bytes)
                .write_image(&image, width, height, ExtendedColorType::Rgb8)
                .map_err(|source| Error::Encode {
                    path: path.clone(),
                    source,
                })?;
            fs::write(&path, bytes).context("write", &path)
        })
}

/// Creates a temporary directory next to `dir`. Dropping the result removes the directory.
fn temporary_dir(dir: &Path) -> Result<TempDir, Error> {
    let parent = dir.parent().unwrap_or(dir);
    fs::create_dir_all(parent).context("create", parent)?;
    tempfile::Builder::new()
        .prefix(".drawn-")
        .tempdir_in(parent)
        .context("create a directory in", parent)
}

/// Replaces `dir`, if it exists, with `new`. The previous directory is moved to `old`, or stays if
/// `new` cannot be renamed.
fn replace(dir: &Path, new: &Path, old: &Path) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(new, dir);
    }
    fs::rename(dir, old)?;
    fs::rename(new, dir).inspect_err(|_| {
        let _ = fs::rename(old, dir);
    })
}
