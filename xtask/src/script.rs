//! Programs of a few lines of shell that stand in for others.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the script `name` of `text` into `folder`. Left alone if it is there: cargo takes a newer file for a newer
/// compiler, and compiles everything again.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "x", "#!/bin/sh\n").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        write(folder.path(), "x", "#!/bin/sh\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    }
}
