//! Rules for `Cargo.toml`: all versions are in the root, each dependency has a comment, and a
//! library crate depends only on the crates of the workspace that [`ALLOWED`] lists.

use super::{Finding, SourceFile};

/// The crates of the workspace.
const OURS: [&str; 9] = [
    "cli",
    "dataset",
    "fetch",
    "kernels",
    "sample",
    "test_devices",
    "trainer",
    "vgg",
    "xtask",
];

/// For each library, the crates of the workspace that it may depend on. Tests may depend on all.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("dataset", &["trainer"]),
    ("fetch", &[]),
    ("kernels", &[]),
    ("sample", &[]),
    ("trainer", &[]),
    ("vgg", &["fetch", "kernels", "trainer"]),
];

/// Checks one `Cargo.toml` of the workspace, adding to `findings`. The package `fuzz` is not part of
/// it.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    let is_root = file.path == "Cargo.toml";
    let package = file
        .path
        .strip_suffix("/Cargo.toml")
        .filter(|&package| package != "fuzz");
    if !is_root && package.is_none() {
        return;
    }
    let package = package.unwrap_or_default().trim_start_matches("crates/");
    let allowed = ALLOWED.iter().find(|(name, _)| *name == package);
    let (mut section, mut explained, mut inherits_lints) = ("", false, false);
    for (index, line) in file.text.lines().enumerate() {
        let mut report = |message: &str| findings.push(file.finding(index + 1, message));
        let line = line.trim();
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = header;
            explained = false;
            if !is_root && header.contains("dependencies.") {
                report("write the dependency in one line: name.workspace = true");
            }
            continue;
        }
        explained = line.starts_with('#') || explained && !line.is_empty();
        inherits_lints |= section == "lints" && line == "workspace = true";
        let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let name = key.split(['.', ' ']).next().unwrap_or_default();
        if section == "workspace.dependencies" && !explained {
            report(
                "a dependency needs a comment that says what it is for, above it or above its group",
            );
        }
        if is_root || !section.ends_with("dependencies") {
            continue;
        }
        if !line.replace(' ', "").contains("workspace=true") {
            report("inherit the version from [workspace.dependencies]: name.workspace = true");
        }
        if let Some((_, allowed)) =
            allowed.filter(|_| OURS.contains(&name) && !section.ends_with("dev-dependencies"))
        {
            if !allowed.contains(&name) {
                report("a library crate must not depend on this crate of the workspace");
            } else if name == "trainer" && !line.contains("optional = true") {
                report("the dependency on trainer must be optional, for the feature `trainer`");
            }
        }
    }
    if !is_root && !inherits_lints {
        findings.push(file.finding(
            0,
            "must inherit the workspace's lints: [lints] workspace = true",
        ));
    }
}
