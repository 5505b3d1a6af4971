//! Lists the files below a folder. Each folder is visited once, even if links lead to it.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout::{is_hidden, is_image};
use crate::unused::{IgnoreReason, Unused};

/// Maximum number of folder levels below the starting folder.
const MAX_DEPTH: usize = 64;

/// An entry of a folder.
pub(crate) struct Entry {
    pub path: PathBuf,
    pub kind: EntryKind,
}

/// The kind of an entry of a folder, by its name and its type.
pub(crate) enum EntryKind {
    Folder {
        is_link: bool,
    },
    /// Has an image extension. Decoding reports a broken link, or a pipe or a device.
    Image,
    Ignored(IgnoreReason),
}

/// Returns the entries of `folder`, sorted by name in the order of code points.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let io = Error::io(folder);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let entry = entry.map_err(&io)?;
        let path = entry.path();
        let kind = entry.file_type().and_then(|kind| classify(&path, kind));
        let kind = kind.map_err(Error::io(&path))?;
        entries.push(Entry { path, kind });
    }
    // The byte order of UTF-8 is the order of code points.
    entries.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(entries)
}

fn classify(path: &Path, kind: FileType) -> io::Result<EntryKind> {
    if path.file_name().is_some_and(is_hidden) {
        return Ok(EntryKind::Ignored(IgnoreReason::Hidden));
    }
    let is_link = kind.is_symlink();
    let target = match is_link {
        false => Ok(kind),
        true => fs::metadata(path).map(|metadata| metadata.file_type()),
    };
    Ok(match target {
        Ok(kind) if kind.is_dir() => EntryKind::Folder { is_link },
        _ if is_image(path) => EntryKind::Image,
        Ok(kind) if kind.is_file() => EntryKind::Ignored(IgnoreReason::Extension),
        Ok(_) => EntryKind::Ignored(IgnoreReason::NotAFile),
        Err(error) if is_link && error.kind() != io::ErrorKind::PermissionDenied => {
            EntryKind::Ignored(IgnoreReason::BrokenLink)
        }
        Err(error) => return Err(error),
    })
}

/// The files below a folder.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Files {
    /// Files with an image extension, sorted by folder, then by name.
    pub images: Vec<PathBuf>,
    /// Other files, and folders that were not visited, sorted by path.
    pub unused: Vec<Unused>,
    /// The visited folders that directly contain images.
    pub(crate) folders: Vec<Folder>,
}

/// Lists the files below `folder`, the images in torchvision's order: by folder, then by name.
///
/// A folder is visited once. One that is reached both directly and through a link is listed with
/// its direct path. A link to a folder that contains it is not followed.
///
/// # Errors
///
/// Returns an error if `folder` is not a folder, if it or a subfolder cannot be read, or if folders
/// are nested more than 64 levels deep.
pub fn files(folder: impl AsRef<Path>) -> Result<Files> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(Error::NoFolder {
            path: folder.into(),
        });
    }
    let mut parents = parents(folder);
    parents.insert(folder_id(folder).map_err(Error::io(folder))?);
    let mut seen = HashSet::new();
    let (mut unused, mut folders) = (Vec::new(), Vec::new());
    // The images of each folder, with its path below `folder` as a string.
    let mut listed: Vec<(OsString, Vec<PathBuf>)> = Vec::new();
    let mut direct = vec![(folder.to_path_buf(), OsString::new(), 0)];
    let mut links = VecDeque::new();
    while let Some((path, name, depth)) = direct.pop().or_else(|| links.pop_front()) {
        let id = folder_id(&path).map_err(Error::io(&path))?;
        let reason = if depth > 0 && parents.contains(&id) {
            Some(IgnoreReason::SymlinkLoop)
        } else if !seen.insert(id.clone()) {
            Some(IgnoreReason::Repeated)
        } else {
            None
        };
        if let Some(reason) = reason {
            unused.push(Unused { path, reason });
            continue;
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep {
                path,
                limit: MAX_DEPTH,
            });
        }
        let mut images = Vec::new();
        for Entry { path, kind } in entries(&path)? {
            match kind {
                EntryKind::Image => images.push(path),
                EntryKind::Ignored(reason) => unused.push(Unused { path, reason }),
                EntryKind::Folder { is_link } => {
                    let mut child = name.clone();
                    child.push("/");
                    child.push(path.file_name().unwrap_or_default());
                    match is_link {
                        true => links.push_back((path, child, depth + 1)),
                        false => direct.push((path, child, depth + 1)),
                    }
                }
            }
        }
        if !images.is_empty() {
            folders.push(Folder { path, id });
        }
        listed.push((name, images));
    }
    // Python sorts the folders as strings, where `a-b` comes before `a/b`. `Path` compares by
    // component.
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    unused.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Files {
        images: listed.into_iter().flat_map(|(_, images)| images).collect(),
        unused,
        folders,
    })
}

/// A folder by its path and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub path: PathBuf,
    pub id: FolderId,
}

/// Whether `folder` is a link to a folder that contains it.
pub(crate) fn is_loop(folder: &Path) -> bool {
    folder_id(folder).is_ok_and(|id| parents(folder).contains(&id))
}

/// The folders above `folder`, along the given path and along the path without links.
fn parents(folder: &Path) -> HashSet<FolderId> {
    let paths = [std::path::absolute(folder), fs::canonicalize(folder)];
    let paths: Vec<PathBuf> = paths.into_iter().flatten().collect();
    let above = paths.iter().flat_map(|path| path.ancestors().skip(1));
    above.filter_map(|path| folder_id(path).ok()).collect()
}

/// Identifies a folder: device and inode, or its path without links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FolderId(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

#[cfg(unix)]
pub(crate) fn folder_id(path: &Path) -> io::Result<FolderId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    Ok(FolderId((metadata.dev(), metadata.ino())))
}

#[cfg(not(unix))]
pub(crate) fn folder_id(path: &Path) -> io::Result<FolderId> {
    fs::canonicalize(path).map(FolderId)
}
