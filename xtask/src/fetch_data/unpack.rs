//! A zip archive into a folder, trusting nothing in it.
//!
//! Only files of the manifest are written, under the manifest's paths, so that no name in the archive
//! ever becomes a path. What an archive of ours never has (links, paths that lead elsewhere,
//! encryption) is refused as a whole rather than passed over. Sizes are counted as bytes come out,
//! whatever the archive says about them.

use super::error::{Error, Problem, io};
use super::manifest::{Manifest, Stop, hash_all, is_litter, is_plain, place};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// The largest archive that is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the archive itself: its list of entries is read whole before the entries can be counted.
    pub archive_bytes: u64,
    /// Files and folders in it.
    pub entries: usize,
    /// Bytes of one file, unpacked.
    pub file_bytes: u64,
    /// Bytes of all files, unpacked.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// Several times what the photographs need: 4,000 entries, 32 MiB each, 256 MiB together and packed.
    fn default() -> Self {
        Self {
            archive_bytes: 256 << 20,
            entries: 4_000,
            file_bytes: 32 << 20,
            total_bytes: 256 << 20,
        }
    }
}

/// The type bits of a Unix mode, and the two types that are accepted.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FOLDER: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;

/// Unpacks `archive` into the new folder `into` and checks every file on the way. Returns the number
/// of bytes written. After an error `into` may hold some files; nothing is written outside it.
pub(super) fn unpack(
    archive: &Path,
    origin: &str,
    manifest: &Manifest,
    limits: &Limits,
    into: &Path,
    on_file: &mut dyn FnMut(),
) -> Result<u64, Error> {
    let unusable = |error: ZipError| Error::NotAnArchive {
        origin: origin.to_owned(),
        reason: error.to_string(),
    };
    let over = |what: String, limit: u64| Error::Limit {
        origin: origin.to_owned(),
        what,
        limit,
    };
    let file = File::open(archive).map_err(io("open", archive))?;
    let length = file.metadata().map_err(io("open", archive))?.len();
    if length > limits.archive_bytes {
        let what = format!("its length, {length} bytes,");
        return Err(over(what, limits.archive_bytes));
    }
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(unusable)?;
    if zip.len() > limits.entries {
        let what = format!("the number of entries, {},", zip.len());
        return Err(over(what, limits.entries as u64));
    }
    if zip.has_duplicate_names() {
        return Err(Error::NotAnArchive {
            origin: origin.to_owned(),
            reason: "a name comes twice".to_owned(),
        });
    }
    fs::create_dir_all(into).map_err(io("create", into))?;

    let mut total = 0;
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for index in 0..zip.len() {
        let facts = zip.by_index_data(index).map_err(unusable)?;
        let name = facts.name().map_err(unusable)?.into_owned();
        if let Some(reason) = objection(&facts, &name) {
            return Err(Error::Unsafe {
                origin: origin.to_owned(),
                entry: name,
                reason,
            });
        }
        if facts.is_dir() || is_litter(&name) {
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
        if facts.size() > limits.file_bytes {
            return Err(over(format!("the size of {name}"), limits.file_bytes));
        }

        let target = place(into, path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(io("create", folder))?;
        }
        let mut output = File::create_new(&target).map_err(io("create", &target))?;
        let mut size = 0;
        let write = |chunk: &[u8]| {
            size += chunk.len() as u64;
            total += chunk.len() as u64;
            if size > limits.file_bytes {
                return Err(over(format!("the size of {name}"), limits.file_bytes));
            }
            if total > limits.total_bytes {
                let what = "the size of all files together".to_owned();
                return Err(over(what, limits.total_bytes));
            }
            output.write_all(chunk).map_err(io("write", &target))
        };
        let mut entry = match zip.by_index(index) {
            Ok(entry) => entry,
            Err(_) => {
                // Its own header is damaged; the others may still tell more.
                problems.push(Problem::Corrupt(path.to_owned()));
                seen.insert(path.to_owned());
                continue;
            }
        };
        match hash_all(&mut entry, write) {
            Ok(found) if found == *expected => {}
            // A read error is a broken stream or a wrong CRC.
            Ok(_) | Err(Stop::Read(_)) => problems.push(Problem::Corrupt(path.to_owned())),
            Err(Stop::Caller(error)) => return Err(error),
        }
        // The rename that puts all in place must not overtake the bytes if the power fails.
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

/// What speaks against an entry, from its place in the central directory alone.
fn objection(entry: &zip::read::ZipFileEntry<'_>, name: &str) -> Option<&'static str> {
    let kind = entry.unix_mode().map_or(0, |mode| mode & MODE_TYPE);
    if entry.is_symlink() {
        Some("is a link")
    } else if !matches!(kind, 0 | MODE_FOLDER | MODE_FILE) {
        Some("is neither a file nor a folder")
    } else if !is_plain(name.strip_suffix('/').unwrap_or(name)) {
        Some("has a path that leads out of the folder")
    } else if entry.encrypted() {
        Some("is encrypted")
    } else {
        None
    }
}
