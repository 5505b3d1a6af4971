//! Where the project lies, and what its folders are called.

use std::path::{Path, PathBuf};

/// What this package's folder is called, directly under the project's root.
const PACKAGE: &str = "xtask";

/// The root of the workspace.
///
/// `cargo run` tells where this package lies, also when the checkout was moved after building; the
/// place where it was built serves a program that is started by hand.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.ends_with(PACKAGE))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// `path` as a reader wants to see it: relative to the current folder where it lies in there.
pub fn shown(path: &Path) -> String {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .filter(|inner| !inner.as_os_str().is_empty())
        .unwrap_or(path)
        .display()
        .to_string()
}
