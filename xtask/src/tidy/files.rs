//! Lists and reads the project's files.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Directories to skip in a checkout without git, because they are not part of the project.
const EXCLUDED: [&str; 5] = [".git", "data", "runs", "shared", "target"];

/// A file of the project.
pub struct SourceFile {
    /// Path relative to the project's root, with forward slashes.
    pub path: String,
    /// The whole contents.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// The contents as text, or `None` for a binary file.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes)
            .ok()
            .filter(|text| !text.contains('\0'))
    }

    /// Whether the path ends with one of `endings`.
    pub(super) fn ends_with(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    /// Whether the file is in a directory named `folder`, at any depth.
    pub(super) fn is_under(&self, folder: &str) -> bool {
        self.path
            .rsplit_once('/')
            .is_some_and(|(folders, _)| folders.split('/').any(|part| part == folder))
    }
}

/// Reads every file that git tracks or would track; without git, every file outside of
/// [`EXCLUDED`].
pub(super) fn list(root: &Path) -> Result<Vec<SourceFile>> {
    let mut paths = BTreeSet::new();
    match git_files(root) {
        Some(listed) => paths.extend(listed),
        None => walk(root, "", &mut paths)?,
    }
    let mut files = Vec::new();
    for path in paths {
        let absolute = root.join(&path);
        // Git also lists symbolic links, and deleted files whose deletion is not yet staged.
        if !fs::symlink_metadata(&absolute).is_ok_and(|file| file.is_file()) {
            continue;
        }
        let bytes =
            fs::read(&absolute).with_context(|| format!("cannot read {}", absolute.display()))?;
        files.push(SourceFile { path, bytes });
    }
    Ok(files)
}

/// The paths that git lists, or `None` without git or outside a repository.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .ok()?;
    let names = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| names.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(folder: &Path, prefix: &str, paths: &mut BTreeSet<String>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if prefix.is_empty() && EXCLUDED.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), paths)?;
        } else {
            paths.insert(path);
        }
    }
    Ok(())
}
