//! The folder beside the destination where the work is done: one run at a time, and one rename at
//! the end.

use super::error::{Error, io};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Name of the file in the workshop by which runs exclude each other.
pub(super) const LOCK: &str = "lock";

/// Puts `new` where `target` is. A folder cannot be renamed over another that holds files, so the old
/// one is moved aside first, and back if the second rename fails.
pub(super) fn replace(new: &Path, target: &Path) -> Result<(), Error> {
    let old = beside(target, "old");
    if old.exists() {
        fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    let had_old = target.symlink_metadata().is_ok();
    if had_old {
        fs::rename(target, &old).map_err(io("move aside", target))?;
    }
    if let Err(error) = fs::rename(new, target) {
        if had_old {
            fs::rename(&old, target).map_err(io("move back", &old))?;
        }
        return Err(io("put in place", target)(error));
    }
    if had_old {
        fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    Ok(())
}

/// Keeps other runs away from the workshop until the returned file is closed.
pub(super) fn lock(workshop: &Path, target: &Path) -> Result<File, Error> {
    let path = workshop.join(LOCK);
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            target: target.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// `.NAME.SUFFIX` in the folder that holds `target`: the same file system, so that a rename works.
pub(super) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target
        .file_name()
        .map_or_else(|| "data".into(), |name| name.to_string_lossy());
    target.with_file_name(format!(".{name}.{suffix}"))
}
