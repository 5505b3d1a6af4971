//! Unpacks an untrusted zip archive.
//!
//! Only files listed in the manifest are written, under the manifest's paths, so names from the
//! archive are never used as paths. An archive with links, devices, paths outside of its directory,
//! or encrypted entries is rejected. Size limits apply to the decompressed bytes, because the sizes
//! in the headers can be false.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use zip::ZipArchive;
use zip::result::ZipError;

use super::list;
use super::manifest::{Manifest, is_plain, is_system_file, local_path};

/// Size limits of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of the archive in bytes. It bounds the memory for the list of entries, which is
    /// read as a whole.
    pub archive_bytes: u64,
    /// Maximum number of files and directories.
    pub entries: usize,
    /// Maximum size of an unpacked file in bytes. One file at a time is in memory.
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
/// the number of bytes written.
///
/// After an error, `into` may contain some of the files. Nothing is written outside of it. Errors
/// of local files have an [`io::Error`] as their cause, and those of the archive's contents do not.
pub(super) fn unpack(
    archive: &Path,
    manifest: &Manifest,
    limits: &Limits,
    into: &Path,
) -> Result<u64> {
    let invalid = |error: ZipError| anyhow!("it is not a valid zip archive: {error}");
    let over = |limit: u64| format!("exceeds the limit of {limit}");
    let (file, size) = File::open(archive)
        .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())))
        .with_context(|| format!("cannot open {}", archive.display()))?;
    if size > limits.archive_bytes {
        bail!("its size, {size} bytes, {}", over(limits.archive_bytes));
    }
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(invalid)?;
    if zip.len() > limits.entries {
        let limit = over(limits.entries as u64);
        bail!("the number of entries, {}, {limit}", zip.len());
    }
    ensure!(
        !zip.has_duplicate_names(),
        "it is not a valid zip archive: duplicate entry"
    );
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;

    let mut total = 0;
    let mut missing: BTreeSet<&str> = manifest.paths().collect();
    let mut problems = Vec::new();
    for index in 0..zip.len() {
        let header = zip.by_index_data(index).map_err(invalid)?;
        let name = header.name().map_err(invalid)?.into_owned();
        if let Some(reason) = unsafe_reason(&header, &name) {
            bail!("entry {name:?} {reason}");
        }
        if header.is_dir() || is_system_file(&name) {
            continue;
        }
        let Some((path, expected)) = manifest.find(&name) else {
            problems.push(format!("not in the manifest: {name}"));
            continue;
        };
        missing.remove(path);
        let mut bytes = Vec::new();
        let result = zip.by_index(index).map_err(io::Error::from);
        let result = result.and_then(|entry| {
            let mut entry = entry.take(limits.file_bytes.saturating_add(1));
            entry.read_to_end(&mut bytes)
        });
        let size = bytes.len() as u64;
        if size > limits.file_bytes {
            bail!("the size of {name} {}", over(limits.file_bytes));
        }
        total += size;
        if total > limits.total_bytes {
            bail!("the total size of the files {}", over(limits.total_bytes));
        }
        // A read error means a damaged header, invalid compressed data or a wrong CRC.
        if result.is_err() || fetch::sha256(&mut bytes.as_slice())? != expected {
            problems.push(format!("corrupt: {path}"));
            continue;
        }
        let target = local_path(into, path);
        write(&target, &bytes).with_context(|| format!("cannot write {}", target.display()))?;
    }
    problems.extend(missing.iter().map(|path| format!("missing: {path}")));
    ensure!(
        problems.is_empty(),
        "it does not match the manifest{}",
        list(&problems)
    );
    Ok(total)
}

/// Creates a file and its directory. The data is synced to disk, so that a power failure after the
/// final rename does not leave empty files.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_data()
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
