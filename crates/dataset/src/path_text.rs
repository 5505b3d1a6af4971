//! Paths as text for files and JSON, from which the path can be restored.
//!
//! A path that is valid Unicode is its own text. Any other path is written as git quotes paths, in
//! double quotes: `\"` is a quotation mark, `\\` a backslash, and `\` with three octal digits a byte
//! that is not part of valid UTF-8. The file `caf` + byte E9 + `.png` becomes `"caf\351.png"`, with
//! the quotation marks. A path that begins with a quotation mark is written like that too, so
//! different paths have different texts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Converts a path to text.
pub fn encode(path: &Path) -> String {
    if let Some(text) = path.to_str().filter(|text| !text.starts_with('"')) {
        return text.to_owned();
    }
    let mut text = String::from('"');
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text + "\""
}

/// Restores the path from the text that [`encode`] returned. Other text is taken as a path.
///
/// On Windows, a path that is not valid Unicode is not restored.
pub fn decode(text: &str) -> PathBuf {
    unquote(text).unwrap_or_else(|| text.into())
}

/// Converts the path of a file in the folder `root` to text: the [`encode`]d [`relative_path`].
pub fn relative(root: &Path, path: &Path) -> String {
    encode(relative_path(root, path).as_ref())
}

/// The path of a file relative to the folder `root`, with forward slashes on every system. A path
/// outside of `root` is returned as it is.
pub fn relative_path(root: &Path, path: &Path) -> OsString {
    let Ok(inner) = path.strip_prefix(root) else {
        return path.into();
    };
    let mut joined = OsString::new();
    for (index, part) in inner.iter().enumerate() {
        if index > 0 {
            joined.push("/");
        }
        joined.push(part);
    }
    joined
}

fn unquote(text: &str) -> Option<PathBuf> {
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [escaped @ (b'"' | b'\\'), after @ ..]) => (*escaped, after),
            (b'\\', [_, _, _, after @ ..]) => {
                let digits = std::str::from_utf8(&rest[1..4]).ok()?;
                (u8::from_str_radix(digits, 8).ok()?, after)
            }
            (b'\\', _) => return None,
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    path_from_bytes(bytes)
}

/// Converts bytes to a path. `None` if they are not a path on this system: on Unix, all bytes are;
/// elsewhere, only valid UTF-8.
pub fn path_from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    #[cfg(unix)]
    let name: Option<OsString> = Some(std::os::unix::ffi::OsStringExt::from_vec(bytes));
    #[cfg(not(unix))]
    let name = String::from_utf8(bytes).ok();
    name.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unicode_path_is_its_own_text() {
        for path in ["a b/ü\n.png", r"C:\data\1.png", "'x'", "it\"s", ""] {
            assert_eq!(encode(path.as_ref()), path);
            assert_eq!(decode(path), Path::new(path));
        }
    }

    #[test]
    fn a_relative_path_has_forward_slashes() {
        let root = Path::new("data").join("bees");
        let path = root.join("train").join("ants").join("1.jpg");
        assert_eq!(relative(&root, &path), "train/ants/1.jpg");
        assert_eq!(relative(&path, &root), root.to_str().unwrap());
    }

    #[test]
    #[cfg(unix)]
    fn paths_that_are_not_unicode_stay_different_and_can_be_restored() {
        let names: [&[u8]; 8] = [
            b"caf\xe9.png",
            b"caf\xe8.png",
            b"caf\xef\xbf\xbd.png",
            b"\"caf\\351.png\"",
            b"caf\\351.png",
            b"\"",
            b"\xff\"\\\xf0\x9f\x90\x9d\n",
            b"\xed\xa0\x80",
        ];
        let texts = names.map(|name| {
            let path = path_from_bytes(name.to_vec()).unwrap();
            let text = encode(&path);
            assert_eq!(decode(&text), path, "{text}");
            text
        });
        assert_eq!(texts[0], r#""caf\351.png""#);
        for (i, text) in texts.iter().enumerate() {
            assert!(!texts[..i].contains(text), "{text}");
        }
    }

    #[test]
    fn malformed_text_is_taken_as_a_path() {
        for text in ["\"", "\"a", r#""\9""#, r#""\400""#, r#""\""#] {
            assert_eq!(decode(text), Path::new(text));
        }
    }
}
