//! Opens files without waiting for other processes.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens `path` for reading. Does not wait for the writer of a named pipe, which any path can be when
/// it is opened, so callers check the type of the opened file.
///
/// # Errors
///
/// Returns an error if the file cannot be opened.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    // Regular files ignore the flag.
    #[cfg(unix)]
    {
        let flag = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flag);
    }
    options.open(path)
}
