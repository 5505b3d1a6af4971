//! Rules for manifests: all versions are in the root `Cargo.toml`, each dependency with a comment.

use super::{Finding, SourceFile};

/// Checks one `Cargo.toml`, adding to `findings`.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    let Some(text) = file.text() else {
        return;
    };
    if file.path == "Cargo.toml" {
        check_root(file, text, findings);
    } else if file.path.ends_with("/Cargo.toml") {
        check_member(file, text, findings);
    }
}

/// Requires a comment above each dependency, or above the group of lines it belongs to.
fn check_root(file: &SourceFile, text: &str, findings: &mut Vec<Finding>) {
    let mut section = "";
    let mut explained = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = section_header(line) {
            section = header;
            explained = false;
        } else if line.is_empty() {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else if section == "workspace.dependencies" && !explained && key(line).is_some() {
            findings.push(finding(
                file,
                index,
                "a dependency needs a comment that says what it is for, above it or above its group",
            ));
        }
    }
}

/// Requires that members inherit versions and lints from the workspace.
fn check_member(file: &SourceFile, text: &str, findings: &mut Vec<Finding>) {
    let mut section = "";
    let mut inherits_lints = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = section_header(line) {
            section = header;
            // The check below reads only one-line entries.
            if header.contains("dependencies.") {
                findings.push(finding(
                    file,
                    index,
                    "write the dependency in one line: name.workspace = true",
                ));
            }
        } else if section == "lints" {
            inherits_lints |= line == "workspace = true";
        } else if section.ends_with("dependencies")
            && key(line).is_some()
            && !line.replace(' ', "").contains("workspace=true")
        {
            findings.push(finding(
                file,
                index,
                "inherit the version from [workspace.dependencies]: name.workspace = true",
            ));
        }
    }
    if !inherits_lints {
        findings.push(Finding {
            path: file.path.clone(),
            line: 0,
            message: "must inherit the workspace's lints: [lints] workspace = true".to_owned(),
        });
    }
}

fn finding(file: &SourceFile, index: usize, message: &str) -> Finding {
    Finding {
        path: file.path.clone(),
        line: index + 1,
        message: message.to_owned(),
    }
}

fn section_header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// The key of a line `key = value`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_name =
        |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | '"');
    (!key.is_empty() && key.chars().all(is_name)).then_some(key)
}
