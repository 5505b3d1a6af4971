//! A data set's list of files with their SHA-256 checksums, in the format of `sha256sum`.
//!
//! It does not contain the checksum of the archive, so any archive with the same files is accepted.

use super::error::{Error, Problem, io};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The SHA-256 of a file.
pub type Checksum = [u8; 32];

/// Files that operating systems and archivers create. They are not unpacked and not reported.
const SYSTEM_FILES: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"];

/// The files of a data set. All are in one directory, which has the name of the data set.
#[derive(Clone, Debug)]
pub struct Manifest {
    name: String,
    files: BTreeMap<String, Checksum>,
}

impl Manifest {
    /// Parses lines of the form `HASH  NAME/PATH`, as written by `sha256sum`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Manifest`] for an invalid line, a path outside of `NAME`, a duplicate path,
    /// more than one `NAME`, and an empty list.
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
            // A space means text mode and a star binary mode. They are equivalent.
            let path = path
                .strip_prefix([' ', '*'])
                .ok_or_else(|| fail("expected two spaces after the hash"))?;
            let (folder, inner) = path
                .split_once('/')
                .filter(|_| is_plain(path))
                .ok_or_else(|| fail("expected a relative path, NAME/FILE, with forward slashes"))?;
            if name.get_or_insert_with(|| folder.to_owned()) != folder {
                return Err(fail("all files must be in one directory"));
            }
            if files.insert(inner.to_owned(), checksum).is_some() {
                return Err(fail("duplicate path"));
            }
        }
        let name = name.ok_or_else(|| Error::Manifest {
            line: 1,
            reason: "the manifest is empty".to_owned(),
        })?;
        Ok(Self { name, files })
    }

    /// Name of the data set and of its directory in the archive, such as `hymenoptera_data`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Always false, because [`parse`](Self::parse) rejects an empty manifest.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Path and checksum of each file, sorted by path. Paths are relative to the data set's
    /// directory and have forward slashes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Checksum)> {
        self.files
            .iter()
            .map(|(path, checksum)| (path.as_str(), checksum))
    }

    /// The checksum of the file at `path`, relative to the data set's directory.
    pub fn checksum(&self, path: &str) -> Option<&Checksum> {
        self.files.get(path)
    }

    /// Verifies the checksums of the listed files in `folder`, and finds files that are not listed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`] if the directory or a file cannot be read. A missing file is not an
    /// error but a [`Problem`].
    pub fn check(&self, folder: &Path) -> Result<Check, Error> {
        let mut check = Check::default();
        for (path, expected) in &self.files {
            let local = local_path(folder, path);
            match File::open(&local) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    check.problems.push(Problem::Missing(path.clone()));
                }
                Err(error) => return Err(io("open", &local)(error)),
                Ok(_) if local.is_dir() => check.problems.push(Problem::Corrupt(path.clone())),
                Ok(mut file) => {
                    let count = |chunk: &[u8]| {
                        check.bytes += chunk.len() as u64;
                        Ok(())
                    };
                    let checksum = hash_all(&mut file, count).map_err(|error| match error {
                        HashError::Read(error) => io("read", &local)(error),
                        HashError::Callback(error) => error,
                    })?;
                    if checksum != *expected {
                        check.problems.push(Problem::Corrupt(path.clone()));
                    }
                }
            }
        }
        if folder.is_dir() {
            self.find_extra(folder, "", &mut check.extra)?;
        }
        Ok(check)
    }

    /// Finds files in `folder` that are not listed, except system files. Does not follow links.
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
            let kind = entry
                .file_type()
                .map_err(io("read the type of", &entry.path()))?;
            if is_system_file(&path) {
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

/// The result of [`Manifest::check`].
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Listed files that are missing or corrupt.
    pub problems: Vec<Problem>,
    /// Files that are not listed.
    pub extra: Vec<Problem>,
    /// Total size of the listed files in bytes.
    pub bytes: u64,
}

/// Whether a path is relative and stays in its directory: no `..`, root, drive or backslash.
pub(super) fn is_plain(path: &str) -> bool {
    !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a component of `path` is one of [`SYSTEM_FILES`].
pub(super) fn is_system_file(path: &str) -> bool {
    path.split('/').any(|part| SYSTEM_FILES.contains(&part))
}

/// An error returned by [`hash_all`].
pub(super) enum HashError {
    /// The source cannot be read.
    Read(io::Error),
    /// The callback returned an error.
    Callback(Error),
}

/// Reads `from` to its end, passes each chunk to `on_chunk`, and returns the hash.
pub(super) fn hash_all(
    from: &mut impl Read,
    mut on_chunk: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Checksum, HashError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => {
                hash.update(&buffer[..count]);
                on_chunk(&buffer[..count]).map_err(HashError::Callback)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HashError::Read(error)),
        }
    }
}

/// The path in `folder` of the file that a manifest lists as `path`, with the system's separators.
pub(super) fn local_path(folder: &Path, path: &str) -> PathBuf {
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
