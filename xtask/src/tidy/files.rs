//! Which files belong to the project.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Folders that git does not keep, for a checkout without git.
const NOT_OURS: [&str; 5] = [".git", "data", "runs", "shared", "target"];

/// A file of the project.
pub struct SourceFile {
    /// From the project's root, with forward slashes.
    pub path: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// Its text, unless it is binary.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes)
            .ok()
            .filter(|text| !text.contains('\0'))
    }

    /// Whether its name ends in one of these.
    pub(super) fn ends_with(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    /// Whether its path has a folder of this name.
    pub(super) fn is_under(&self, folder: &str) -> bool {
        self.path
            .rsplit_once('/')
            .is_some_and(|(folders, _)| folders.split('/').any(|part| part == folder))
    }
}

/// Every file that git keeps or would keep; without git, every file outside of [`NOT_OURS`].
pub(super) fn list(root: &Path) -> Result<Vec<SourceFile>> {
    let mut paths = BTreeSet::new();
    match git_files(root) {
        Some(listed) => paths.extend(listed),
        None => walk(root, "", &mut paths)?,
    }
    let mut files = Vec::new();
    for path in paths {
        let place = root.join(&path);
        // Deleted but not yet committed, or a link.
        if !fs::symlink_metadata(&place).is_ok_and(|file| file.is_file()) {
            continue;
        }
        let bytes = fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
        files.push(SourceFile { path, bytes });
    }
    Ok(files)
}

/// What git lists, if this is a repository and git is installed.
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
        if prefix.is_empty() && NOT_OURS.contains(&name.as_str()) {
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
