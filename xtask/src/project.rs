//! Paths of the project.

use std::path::{Path, PathBuf};

/// Name of this package's directory, in the project's root.
const PACKAGE: &str = "xtask";

/// The root of the workspace.
///
/// `cargo run` sets `CARGO_MANIFEST_DIR`, which stays correct when the checkout is moved after a
/// build. A binary that is started directly uses the path it was built in.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.ends_with(PACKAGE))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// `path` for display: relative to the current directory if it is inside of it.
pub fn relative(path: &Path) -> String {
    std::env::current_dir()
        .ok()
        .and_then(|current| path.strip_prefix(current).ok())
        .filter(|inner| !inner.as_os_str().is_empty())
        .unwrap_or(path)
        .display()
        .to_string()
}
