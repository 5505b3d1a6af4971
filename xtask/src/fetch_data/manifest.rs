//! A data set's list of files with their SHA-256 checksums, in the format of `sha256sum`.
//!
//! It does not contain the checksum of the archive, so any archive with the same files is accepted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

/// Files that operating systems and archivers create. They are not unpacked and not reported.
const SYSTEM_FILES: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"];

/// The files of a data set. All are in one directory, which has the name of the data set.
#[derive(Clone, Debug)]
pub struct Manifest {
    name: String,
    /// Lower-case checksums, by the path in the directory.
    files: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses lines of the form `HASH  NAME/PATH` with the same `NAME`, as written by `sha256sum`.
    ///
    /// # Errors
    ///
    /// Returns an error for an invalid line, another `NAME` than that of the first line, and an
    /// empty list.
    pub fn parse(text: &str) -> Result<Self> {
        let mut name = None;
        let mut files = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let (checksum, _, path) = parse_line(line)
                .filter(|(_, folder, _)| name.get_or_insert(*folder) == folder)
                .with_context(|| format!("line {} of the manifest is invalid", index + 1))?;
            files.insert(path.to_owned(), checksum.to_owned());
        }
        let name = name.context("the manifest is empty")?.to_owned();
        Ok(Self { name, files })
    }

    /// Name of the data set and of its directory in the archive, such as `hymenoptera_data`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Paths of the files, sorted. They are relative to the data set's directory and have forward
    /// slashes.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Finds the file that an archive lists as `NAME/PATH`. Returns its path and checksum.
    pub(super) fn find(&self, name: &str) -> Option<(&str, &str)> {
        let path = name.strip_prefix(&self.name)?.strip_prefix('/')?;
        let (path, checksum) = self.files.get_key_value(path)?;
        Some((path, checksum))
    }

    /// Verifies the checksums of the listed files in `folder`, and finds files that are not listed.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory or a file cannot be read. A missing file is not an error
    /// but a problem in the result.
    pub fn check(&self, folder: &Path) -> Result<Check> {
        let mut check = Check::default();
        for (path, expected) in &self.files {
            let local = folder.join(path);
            if !local.is_file() {
                check.problems.push(format!("missing: {path}"));
                continue;
            }
            let bytes = fs::read(&local).with_context(|| cannot_read(&local))?;
            check.bytes += bytes.len() as u64;
            if fetch::sha256(&mut bytes.as_slice())? != *expected {
                check.problems.push(format!("corrupt: {path}"));
            }
        }
        if folder.is_dir() {
            self.find_extra(folder, "", &mut check.extra)?;
        }
        Ok(check)
    }

    /// Finds files in `folder` that are not listed, except system files. Does not follow links.
    fn find_extra(&self, folder: &Path, prefix: &str, extra: &mut Vec<String>) -> Result<()> {
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .with_context(|| cannot_read(folder))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry
                .file_type()
                .with_context(|| cannot_read(&entry.path()))?;
            if is_system_file(&path) {
                continue;
            } else if kind.is_dir() {
                self.find_extra(&entry.path(), &format!("{path}/"), extra)?;
            } else if !self.files.contains_key(&path) {
                extra.push(format!("not in the manifest: {path}"));
            }
        }
        Ok(())
    }
}

/// The result of [`Manifest::check`].
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Listed files that are missing or corrupt, each as `missing: PATH` or `corrupt: PATH`.
    pub problems: Vec<String>,
    /// Files that are not listed, each as `not in the manifest: PATH`.
    pub extra: Vec<String>,
    /// Total size in bytes of the listed files that exist.
    pub bytes: u64,
}

/// Returns the checksum, `NAME` and `PATH` of a line.
fn parse_line(line: &str) -> Option<(&str, &str, &str)> {
    let (checksum, path) = line.split_once("  ")?;
    let (folder, name) = path.split_once('/')?;
    (checksum.len() == 64 && is_plain(path)).then_some((checksum, folder, name))
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

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
