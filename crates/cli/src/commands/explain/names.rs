//! Names of the files for images: safe on every system, and different for every image.

use std::collections::HashMap;
use std::path::Path;

use crate::escape::is_unprintable;

/// Maximum length of a name in bytes, without its number and extension. File systems allow 255.
const MAX_LENGTH: usize = 200;

/// The names given so far, in lower case, because some file systems ignore case. Each has the last
/// number that was appended to it, so that many images with the same name take linear time.
#[derive(Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    /// Returns a name for `image`: its file name without the extension. Characters that a file
    /// system, a terminal or a shell may not take literally are replaced with `_`. A name that was
    /// given before gets a number: `bee`, `bee-2`, `bee-3`.
    pub fn name(&mut self, image: &Path) -> String {
        let stem = image.file_stem().unwrap_or_default().to_string_lossy();
        let mut name: String = stem
            .chars()
            .map(|c| if is_safe(c) { c } else { '_' })
            .collect();
        name.truncate(name.floor_char_boundary(MAX_LENGTH));
        if name.is_empty() || name.starts_with(['.', '-']) {
            name.insert(0, '_');
        }
        let key = name.to_lowercase();
        let Some(&last) = self.0.get(&key) else {
            self.0.insert(key, 1);
            return name;
        };
        let is_new = |number: &usize| !self.0.contains_key(&format!("{key}-{number}"));
        let number = (last + 1..).find(is_new).unwrap_or(last);
        self.0.insert(format!("{key}-{number}"), 1);
        self.0.insert(key, number);
        format!("{name}-{number}")
    }
}

fn is_safe(c: char) -> bool {
    !is_unprintable(c) && c != char::REPLACEMENT_CHARACTER && !r#"/\:*?"<>|"#.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        let mut names = Names::default();
        paths
            .iter()
            .map(|path| names.name(Path::new(path)))
            .collect()
    }

    #[test]
    fn equal_names_from_different_folders_are_numbered() {
        let paths = [
            "a/bee.jpg",
            "b/bee.png",
            "b/bee-2.jpg",
            "c/BEE.jpg",
            "蚂蚁 1.png",
        ];
        assert_eq!(
            names(&paths),
            ["bee", "bee-2", "bee-2-2", "BEE-3", "蚂蚁 1"]
        );
        let many = names(&["bee.jpg"; 50_000]);
        assert_eq!(many.last().unwrap(), "bee-50000");
    }

    #[test]
    fn names_are_safe_on_every_file_system() {
        let paths = [
            "..",
            "",
            "/",
            ".hidden.png",
            "-rf.png",
            "a:b*\u{1b}[2J\n\u{202e}.jpg",
        ];
        let expected = ["_", "_-2", "_-3", "_.hidden", "_-rf", "a_b__[2J__"];
        assert_eq!(names(&paths), expected);
        let long = "é".repeat(200) + ".jpg";
        let long = names(&[&long, &long]);
        assert_eq!(long, ["é".repeat(100), "é".repeat(100) + "-2"]);
    }

    #[test]
    #[cfg(unix)]
    fn bytes_that_are_not_unicode_are_replaced() {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Names::default();
        let mut name = |bytes: &[u8]| names.name(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(name(b"caf\xe9.png"), "caf_");
        assert_eq!(name(b"caf\xe8.png"), "caf_-2");
    }
}
