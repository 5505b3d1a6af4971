//! The staging directory next to the destination. A lock file admits one process at a time.

use super::error::{Error, io};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Name of the lock file in the staging directory.
pub(super) const LOCK: &str = "lock";

/// Replaces `target` with `new`.
///
/// A directory cannot be renamed over one that is not empty. The old one is therefore renamed
/// first, and renamed back if the second rename fails.
pub(super) fn replace(new: &Path, target: &Path) -> Result<(), Error> {
    let old = sibling(target, "old");
    if old.exists() {
        fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    let had_old = target.symlink_metadata().is_ok();
    if had_old {
        fs::rename(target, &old).map_err(io("rename", target))?;
    }
    if let Err(error) = fs::rename(new, target) {
        if had_old {
            fs::rename(&old, target).map_err(io("restore", &old))?;
        }
        return Err(io("replace", target)(error));
    }
    if had_old {
        fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    Ok(())
}

/// Locks the staging directory until the returned file is closed.
pub(super) fn lock(staging: &Path, target: &Path) -> Result<File, Error> {
    let path = staging.join(LOCK);
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            target: target.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// The path `.NAME.SUFFIX` in the directory of `target`, on the same file system so that renames
/// work.
pub(super) fn sibling(target: &Path, suffix: &str) -> PathBuf {
    let name = target
        .file_name()
        .map_or_else(|| "data".into(), |name| name.to_string_lossy());
    target.with_file_name(format!(".{name}.{suffix}"))
}
