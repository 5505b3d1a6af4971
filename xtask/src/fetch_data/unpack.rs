//! Unpacks an untrusted zip archive.
//!
//! Only files listed in the manifest are written, under the manifest's paths, so names from the
//! archive are never used as paths. An archive with links, paths outside of its directory, or
//! encryption is rejected. Size limits also apply to the decompressed bytes, because the sizes in
//! the headers can be false.

use super::error::{Error, Problem, io};
use super::manifest::{HashError, Manifest, hash_all, is_plain, is_system_file, local_path};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// Size limits of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of the archive in bytes. It bounds the memory for the list of entries, which is
    /// read as a whole.
    pub archive_bytes: u64,
    /// Maximum number of files and directories.
    pub entries: usize,
    /// Maximum size of an unpacked file in bytes.
    pub file_bytes: u64,
    /// Maximum total size of the unpacked files in bytes.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// Several times what the photographs need: 4,000 entries, 32 MiB for each file, and 256 MiB
    /// each for the archive and for all unpacked files together.
    fn default() -> Self {
        Self {
            archive_bytes: 256 << 20,
            entries: 4_000,
            file_bytes: 32 << 20,
            total_bytes: 256 << 20,
        }
    }
}

/// Mask of the file type in a Unix mode, and the two accepted types.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FOLDER: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;

/// Unpacks `archive` into the new directory `into` and verifies the checksum of every file. Returns
/// the number of bytes written. After an error, `into` may contain some of the files. Nothing is
/// written outside of it.
pub(super) fn unpack(
    archive: &Path,
    origin: &str,
    manifest: &Manifest,
    limits: &Limits,
    into: &Path,
    on_file: &mut dyn FnMut(),
) -> Result<u64, Error> {
    let invalid = |error: ZipError| Error::NotAnArchive {
        origin: origin.to_owned(),
        reason: error.to_string(),
    };
    let over_limit = |quantity: String, limit: u64| Error::Limit {
        origin: origin.to_owned(),
        quantity,
        limit,
    };
    let file = File::open(archive).map_err(io("open", archive))?;
    let length = file.metadata().map_err(io("open", archive))?.len();
    if length > limits.archive_bytes {
        let quantity = format!("its size, {length} bytes,");
        return Err(over_limit(quantity, limits.archive_bytes));
    }
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(invalid)?;
    if zip.len() > limits.entries {
        let quantity = format!("the number of entries, {},", zip.len());
        return Err(over_limit(quantity, limits.entries as u64));
    }
    if zip.has_duplicate_names() {
        return Err(Error::NotAnArchive {
            origin: origin.to_owned(),
            reason: "duplicate entry".to_owned(),
        });
    }
    fs::create_dir_all(into).map_err(io("create", into))?;

    let mut total = 0;
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for index in 0..zip.len() {
        let header = zip.by_index_data(index).map_err(invalid)?;
        let name = header.name().map_err(invalid)?.into_owned();
        if let Some(reason) = unsafe_reason(&header, &name) {
            return Err(Error::Unsafe {
                origin: origin.to_owned(),
                entry: name,
                reason,
            });
        }
        if header.is_dir() || is_system_file(&name) {
            continue;
        }
        let listed = name
            .strip_prefix(manifest.name())
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|path| Some((path, manifest.checksum(path)?)));
        let Some((path, expected)) = listed else {
            problems.push(Problem::Extra(name));
            continue;
        };
        if header.size() > limits.file_bytes {
            return Err(over_limit(format!("the size of {name}"), limits.file_bytes));
        }

        let target = local_path(into, path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(io("create", folder))?;
        }
        let mut output = File::create_new(&target).map_err(io("create", &target))?;
        let mut size = 0;
        let write = |chunk: &[u8]| {
            size += chunk.len() as u64;
            total += chunk.len() as u64;
            if size > limits.file_bytes {
                return Err(over_limit(format!("the size of {name}"), limits.file_bytes));
            }
            if total > limits.total_bytes {
                let quantity = "the total size of the files".to_owned();
                return Err(over_limit(quantity, limits.total_bytes));
            }
            output.write_all(chunk).map_err(io("write", &target))
        };
        let mut entry = match zip.by_index(index) {
            Ok(entry) => entry,
            Err(_) => {
                // The header of this file is damaged. The other files are still checked.
                problems.push(Problem::Corrupt(path.to_owned()));
                seen.insert(path.to_owned());
                continue;
            }
        };
        match hash_all(&mut entry, write) {
            Ok(checksum) if checksum == *expected => {}
            // A read error means invalid compressed data or a wrong CRC.
            Ok(_) | Err(HashError::Read(_)) => problems.push(Problem::Corrupt(path.to_owned())),
            Err(HashError::Callback(error)) => return Err(error),
        }
        // The data must be on disk before the final rename, in case of a power failure.
        output.sync_data().map_err(io("write", &target))?;
        seen.insert(path.to_owned());
        on_file();
    }

    let missing = manifest.files().filter(|(path, _)| !seen.contains(*path));
    problems.extend(missing.map(|(path, _)| Problem::Missing(path.to_owned())));
    if problems.is_empty() {
        Ok(total)
    } else {
        Err(Error::Mismatch {
            origin: origin.to_owned(),
            problems,
        })
    }
}

/// Why an entry is not safe to unpack, according to the central directory.
fn unsafe_reason(entry: &zip::read::ZipFileEntry<'_>, name: &str) -> Option<&'static str> {
    let kind = entry.unix_mode().map_or(0, |mode| mode & MODE_TYPE);
    if entry.is_symlink() {
        Some("is a link")
    } else if !matches!(kind, 0 | MODE_FOLDER | MODE_FILE) {
        Some("is neither a file nor a directory")
    } else if !is_plain(name.strip_suffix('/').unwrap_or(name)) {
        Some("has a path outside of the archive's directory")
    } else if entry.encrypted() {
        Some("is encrypted")
    } else {
        None
    }
}
