//! The staging directory next to the destination. A lock file admits one process at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Name of the lock file in the staging directory.
pub(super) const LOCK: &str = "lock";

/// Replaces `target` with `new`.
///
/// A directory cannot be renamed over one that is not empty. The old one is therefore renamed
/// first, and renamed back if the second rename fails.
pub(super) fn replace(new: &Path, target: &Path) -> Result<()> {
    let old = sibling(target, "old");
    if old.exists() {
        remove(&old)?;
    }
    let had_old = target.symlink_metadata().is_ok();
    if had_old {
        fs::rename(target, &old).with_context(|| format!("cannot rename {}", target.display()))?;
    }
    if let Err(error) = fs::rename(new, target) {
        if had_old {
            fs::rename(&old, target)
                .with_context(|| format!("cannot restore {}", old.display()))?;
        }
        return Err(error).with_context(|| format!("cannot replace {}", target.display()));
    }
    if had_old {
        remove(&old)?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Locks the staging directory until the returned file is closed. Fails if another process has
/// locked it.
pub(super) fn lock(staging: &Path, target: &Path) -> Result<File> {
    let path = staging.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another fetch-data is running for {}", target.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
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
