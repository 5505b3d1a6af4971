//! Locks between processes.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::Error;

/// Locks the file at `path`, which is created if it does not exist, and waits as long as another
/// process or thread holds the lock. Calls `on_wait` before it waits.
///
/// Dropping the returned file releases the lock, and so does the end of the process. If the file
/// system does not support locks, nothing is locked. The file must not be removed: one process could
/// then hold the lock on the removed file while another locks a new one.
///
/// # Errors
///
/// Returns [`Error::Io`] if the file cannot be created or locked.
pub fn lock(path: &Path, on_wait: impl FnOnce()) -> Result<File, Error> {
    // The file is not truncated, because the path may be a link to another file. Opening a FIFO for
    // reading and writing does not block.
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(Error::io("create", path))?;
    let mut result = match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            on_wait();
            file.lock()
        }
    };
    while matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        result = file.lock();
    }
    match result {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            Err(Error::io("lock", path)(error))
        }
        _ => Ok(file),
    }
}
