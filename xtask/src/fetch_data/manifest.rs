//! The list of files that the data set consists of, with their SHA-256, in the format of
//! `sha256sum`: what is unpacked, and what a folder is checked against.
//!
//! The archive's own checksum is not part of it: the same pictures packed anew are as good.

use super::error::{Error, Problem, io};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The SHA-256 of a file.
pub type Checksum = [u8; 32];

/// Files that desktops and archivers leave behind: never unpacked, never counted.
const LITTER: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"];

/// The files of a data set. All lie under one folder, whose name is the data set's.
#[derive(Clone, Debug)]
pub struct Manifest {
    name: String,
    files: BTreeMap<String, Checksum>,
}

impl Manifest {
    /// Reads lines of `HASH  NAME/PATH`, as `sha256sum` writes them.
    ///
    /// # Errors
    /// [`Error::Manifest`] for a line that is not of this form, for a path that leaves its folder or
    /// comes twice, for files under more than one folder, and for an empty list.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut name = None;
        let mut files = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let fail = |reason: &str| Error::Manifest {
                line: index + 1,
                reason: reason.to_owned(),
            };
            if line.is_empty() {
                continue;
            }
            let (checksum, path) = line
                .split_once(' ')
                .ok_or_else(|| fail("expected HASH, two spaces, PATH"))?;
            let checksum = parse_checksum(checksum)
                .ok_or_else(|| fail("expected 64 hexadecimal digits first"))?;
            // The second character tells text (blank) from binary (star) mode, which mean the same.
            let path = path
                .strip_prefix([' ', '*'])
                .ok_or_else(|| fail("expected two spaces after the hash"))?;
            let (folder, inner) = path
                .split_once('/')
                .filter(|_| is_plain(path))
                .ok_or_else(|| fail("expected a plain path, FOLDER/FILE, with forward slashes"))?;
            if name.get_or_insert_with(|| folder.to_owned()) != folder {
                return Err(fail("all files must lie under one folder"));
            }
            if files.insert(inner.to_owned(), checksum).is_some() {
                return Err(fail("this path comes twice"));
            }
        }
        let name = name.ok_or_else(|| Error::Manifest {
            line: 1,
            reason: "the list is empty".to_owned(),
        })?;
        Ok(Self { name, files })
    }

    /// The folder that holds the files in the archive, such as `hymenoptera_data`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Never true: an empty list is refused when it is read.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Path under the data set's folder, with forward slashes, and checksum; sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Checksum)> {
        self.files
            .iter()
            .map(|(path, checksum)| (path.as_str(), checksum))
    }

    /// The checksum of one file, by its path under the data set's folder.
    pub fn checksum(&self, path: &str) -> Option<&Checksum> {
        self.files.get(path)
    }

    /// Compares every file under `folder` with the list, reading all of them.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder or a file cannot be read; that a file is absent is no error but
    /// a finding.
    pub fn check(&self, folder: &Path) -> Result<Check, Error> {
        let mut check = Check::default();
        for (path, expected) in &self.files {
            let place = place(folder, path);
            match File::open(&place) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    check.wrong.push(Problem::Missing(path.clone()));
                }
                Err(error) => return Err(io("open", &place)(error)),
                Ok(_) if place.is_dir() => check.wrong.push(Problem::Corrupt(path.clone())),
                Ok(mut file) => {
                    let count = |chunk: &[u8]| {
                        check.bytes += chunk.len() as u64;
                        Ok(())
                    };
                    let found = hash_all(&mut file, count).map_err(|stop| match stop {
                        Stop::Read(error) => io("read", &place)(error),
                        Stop::Caller(error) => error,
                    })?;
                    if found != *expected {
                        check.wrong.push(Problem::Corrupt(path.clone()));
                    }
                }
            }
        }
        if folder.is_dir() {
            self.find_extra(folder, "", &mut check.extra)?;
        }
        Ok(check)
    }

    /// Lists what lies under `folder` and is neither of the data set nor litter. Links are not
    /// followed.
    fn find_extra(
        &self,
        folder: &Path,
        prefix: &str,
        extra: &mut Vec<Problem>,
    ) -> Result<(), Error> {
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(io("list", folder))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(io("look at", &entry.path()))?;
            if is_litter(&path) {
                continue;
            } else if kind.is_dir() {
                self.find_extra(&entry.path(), &format!("{path}/"), extra)?;
            } else if !self.files.contains_key(&path) {
                extra.push(Problem::Extra(path));
            }
        }
        Ok(())
    }
}

/// How a folder compares with a [`Manifest`].
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Files of the list that are missing or differ.
    pub wrong: Vec<Problem>,
    /// Files that the list does not know.
    pub extra: Vec<Problem>,
    /// How much was read.
    pub bytes: u64,
}

/// Whether a path is relative and stays where it is: no `..`, no root, no drive, no backslash.
pub(super) fn is_plain(path: &str) -> bool {
    !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether some part of a path names what desktops and archivers leave behind.
pub(super) fn is_litter(path: &str) -> bool {
    path.split('/').any(|part| LITTER.contains(&part))
}

/// Why [`hash_all`] stopped.
pub(super) enum Stop {
    /// The source could not be read.
    Read(io::Error),
    /// The caller would not go on.
    Caller(Error),
}

/// Reads `from` to its end, hashing, and gives each chunk to `keep`.
pub(super) fn hash_all(
    from: &mut impl Read,
    mut keep: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Checksum, Stop> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => {
                hash.update(&buffer[..count]);
                keep(&buffer[..count]).map_err(Stop::Caller)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Read(error)),
        }
    }
}

/// `path` of the manifest below `folder`, in the system's own spelling.
pub(super) fn place(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.split('/').collect::<PathBuf>())
}

fn parse_checksum(digits: &str) -> Option<Checksum> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut checksum = [0; 32];
    for (byte, pair) in checksum.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(checksum)
}
