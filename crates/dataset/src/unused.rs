//! Files in a data set that are not used, and their number by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::file_kind::FileKind;
use crate::open::open_without_waiting;

/// A file or folder in a data set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Path of the file or folder.
    pub path: PathBuf,
    /// Why it is not used.
    pub reason: IgnoreReason,
}

/// Why a file or folder is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IgnoreReason {
    /// The name begins with a dot, or is one that an operating system gives to its own files:
    /// `Thumbs.db`, `desktop.ini`, `__MACOSX`.
    Hidden,
    /// The extension is not in [`EXTENSIONS`](crate::image_folder::EXTENSIONS).
    Extension,
    /// An image in the root folder.
    OutsideSplits,
    /// An image in a split folder, outside of the class folders.
    OutsideClasses,
    /// A folder in the root folder that is not used as a split.
    NotASplit,
    /// A symbolic link to a folder that contains the link.
    SymlinkLoop,
    /// A second path to a folder whose images are already listed.
    Repeated,
    /// A symbolic link to a file or folder that does not exist, without an image extension.
    BrokenLink,
    /// A pipe, a socket or a device, without an image extension.
    NotAFile,
}

/// The number of unused files of one kind.
///
/// `Display` writes it as `1 HEIC image` or `12 HEIC images`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KindCount {
    /// The kind in the singular, such as `HEIC image`, `text file` or `broken link`.
    pub kind: &'static str,
    /// Number of files.
    pub files: usize,
    /// Whether the files are images, or stand for images, as Git LFS pointers do.
    #[serde(skip)]
    pub is_image: bool,
    /// The step that makes the files usable as images, such as `convert them to JPEG`.
    #[serde(skip)]
    pub remedy: String,
}

/// Counts the files in `unused` by kind, the most frequent first. Hidden files are passed over, and
/// folders whose images are used under another path.
///
/// Reads the first bytes of each file.
pub fn count_kinds<'a>(unused: impl IntoIterator<Item = &'a Unused>) -> Vec<KindCount> {
    let mut counts: BTreeMap<&str, KindCount> = BTreeMap::new();
    for Unused { path, reason } in unused {
        let (kind, is_image, remedy) = match reason {
            IgnoreReason::Hidden
            | IgnoreReason::NotASplit
            | IgnoreReason::SymlinkLoop
            | IgnoreReason::Repeated => continue,
            IgnoreReason::BrokenLink => ("broken link", false, String::new()),
            IgnoreReason::NotAFile => ("special file", false, String::new()),
            IgnoreReason::Extension
            | IgnoreReason::OutsideSplits
            | IgnoreReason::OutsideClasses => match kind(path) {
                Ok(kind) => (kind.name(), stands_for_image(kind), remedy(kind)),
                Err(_) => ("unreadable file", false, String::new()),
            },
        };
        let count = counts.entry(kind).or_insert(KindCount {
            kind,
            files: 0,
            is_image,
            remedy,
        });
        count.files += 1;
    }
    let mut counts: Vec<KindCount> = counts.into_values().collect();
    // The sort is stable, so kinds with equal counts stay in alphabetical order.
    counts.sort_by_key(|count| std::cmp::Reverse(count.files));
    counts
}

/// Detects what the file at `path` contains, from its first bytes.
///
/// # Errors
///
/// Returns an error if `path` is not a regular file or cannot be read.
pub(crate) fn kind(path: &Path) -> io::Result<FileKind> {
    let file = open_without_waiting(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut start = Vec::new();
    file.take(FileKind::PREFIX as u64).read_to_end(&mut start)?;
    Ok(FileKind::detect(&start))
}

fn stands_for_image(kind: FileKind) -> bool {
    kind.is_image() || kind.name() == "Git LFS pointer"
}

/// [`FileKind::remedy`] for several files.
fn remedy(kind: FileKind) -> String {
    if kind.format().is_some() {
        return "give them the extension of their format".into();
    }
    let words = kind.remedy().split(' ');
    let words: Vec<&str> = words
        .map(|word| if word == "it" { "them" } else { word })
        .collect();
    words.join(" ")
}

impl fmt::Display for KindCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, files, .. } = self;
        if *files == 1 {
            return write!(f, "1 {kind}");
        }
        // The plural of `file in an unknown format` is `files in an unknown format`.
        let ends = [" in ", " of ", " such "].map(|word| kind.find(word));
        let end = ends.into_iter().flatten().min().unwrap_or(kind.len());
        write!(f, "{files} {}s{}", &kind[..end], &kind[end..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_plurals() {
        for (kind, plural) in [
            ("HEIC image", "2 HEIC images"),
            ("file in an unknown format", "2 files in an unknown format"),
            ("file of zero bytes only", "2 files of zero bytes only"),
            (
                "OLE file such as Thumbs.db",
                "2 OLE files such as Thumbs.db",
            ),
        ] {
            let mut count = KindCount {
                kind,
                files: 2,
                is_image: false,
                remedy: String::new(),
            };
            assert_eq!(count.to_string(), plural);
            count.files = 1;
            assert_eq!(count.to_string(), format!("1 {kind}"));
        }
    }
}
