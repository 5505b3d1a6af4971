//! Limits the directory of an untrusted zip archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::read::Config;
use zip::result::ZipResult;

/// Maximum number of bytes that are read to list the entries. The list needs about ten times as much
/// memory. 16 MiB are enough for 200,000 entries.
const MAX_DIRECTORY: u64 = 16 << 20;

/// Checks that the archive can be opened, and that its directory does not exceed the limit.
pub(super) fn check(file: &File, config: Config) -> ZipResult<()> {
    let reader = Limited {
        reader: BufReader::new(file),
        rest: MAX_DIRECTORY,
    };
    ZipArchive::with_config(config, reader).map(drop)
}

/// A reader that fails after a number of bytes.
struct Limited<R> {
    reader: R,
    rest: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let rest = self.rest.checked_sub(count as u64);
        self.rest = rest.ok_or_else(|| {
            io::Error::other(format!("its directory exceeds {MAX_DIRECTORY} bytes"))
        })?;
        Ok(count)
    }
}

impl<R: Seek> Seek for Limited<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.reader.seek(position)
    }
}
