//! Unpacks an untrusted zip archive.
//!
//! Only files listed in the manifest are written, under the manifest's paths, so names from the
//! archive are never used as paths. An archive with links, devices or paths outside of its directory
//! is rejected. The size limit applies to the decompressed bytes, because the sizes in the headers
//! can be false.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use zip::ZipArchive;
use zip::result::ZipError;

use super::list;
use super::manifest::{Manifest, is_plain, is_system_file};

/// Mask of the file type in a Unix mode, and the two accepted types.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FOLDER: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;

/// Unpacks `archive` into the new directory `into` and verifies the checksum of every file. Returns
/// the number of bytes written.
///
/// The archive may have `max_size` bytes, and so may the files together. The limit of the archive
/// also bounds the memory for the list of its entries, which is read as a whole.
///
/// After an error, `into` may contain some of the files. Nothing is written outside of it. Errors
/// of local files have an [`io::Error`] as their cause, and those of the archive's contents do not.
pub(super) fn unpack(
    archive: &Path,
    manifest: &Manifest,
    max_size: u64,
    into: &Path,
) -> Result<u64> {
    let invalid = |error: ZipError| anyhow!("it is not a valid zip archive: {error}");
    let too_large = |what| format!("{what} exceeds the limit of {max_size} bytes");
    let (file, size) = File::open(archive)
        .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())))
        .with_context(|| format!("cannot open {}", archive.display()))?;
    ensure!(size <= max_size, too_large("its size"));
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(invalid)?;
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
        let kind = header.unix_mode().map_or(0, |mode| mode & MODE_TYPE);
        if !matches!(kind, 0 | MODE_FOLDER | MODE_FILE) {
            bail!("entry {name:?} is neither a file nor a directory");
        }
        if !is_plain(name.strip_suffix('/').unwrap_or(&name)) {
            bail!("entry {name:?} has a path outside of the archive's directory");
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
            let mut entry = entry.take((max_size - total).saturating_add(1));
            entry.read_to_end(&mut bytes)
        });
        total += bytes.len() as u64;
        ensure!(total <= max_size, too_large("the size of the files"));
        // A read error means a damaged header, invalid compressed data or a wrong CRC.
        if result.is_err() || fetch::sha256(&mut bytes.as_slice())? != expected {
            problems.push(format!("corrupt: {path}"));
            continue;
        }
        let target = into.join(path);
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
