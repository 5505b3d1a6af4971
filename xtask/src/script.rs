//! Small shell scripts that replace other programs.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes an executable script with the contents `text` to `folder/name`.
///
/// An identical file is not written again: cargo would treat the newer file as a new compiler and
/// rebuild everything.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if fs::read_to_string(&path).is_ok_and(|existing| existing == text) {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot set the permissions of {}", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identical_script_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "x", "#!/bin/sh\n").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        write(folder.path(), "x", "#!/bin/sh\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    }
}
