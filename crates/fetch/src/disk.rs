//! Free disk space.

use std::path::Path;

/// Disk space in bytes that an unprivileged user can write to the file system of `folder`; `None` if
/// the system does not report it.
pub fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stats = rustix::fs::statvfs(folder).ok()?;
        Some(stats.f_bavail.saturating_mul(stats.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
