//! Converts paths to the form recorded in files.

use std::path::Path;

/// `path` relative to `root`, with forward slashes on every system, so that files written on one
/// system match on another. A path outside `root` is returned unchanged.
pub fn relative(root: &Path, path: &Path) -> String {
    let Ok(inner) = path.strip_prefix(root) else {
        return path.display().to_string();
    };
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_has_forward_slashes() {
        let root = Path::new("data").join("bees");
        let path = root.join("train").join("ants").join("1.jpg");
        assert_eq!(relative(&root, &path), "train/ants/1.jpg");
        assert_eq!(relative(&path, &root), root.display().to_string());
    }
}
