//! Escapes names for the terminal.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;

/// Escapes the characters of `text` that [`is_unprintable`] finds, as `\n`, `\x1b` or `\u{202e}`.
///
/// Names in output can come from anyone: files, classes, tensors, servers. With this function they
/// cannot start a line, move the cursor, set the title of the terminal or reverse the text after
/// them. A backslash stays as it is, so escaping twice changes nothing.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for c in text.chars() {
        // Writing into a string cannot fail.
        let _ = match c {
            '\n' | '\r' | '\t' => write!(escaped, "{}", c.escape_default()),
            _ if !is_unprintable(c) => write!(escaped, "{c}"),
            _ if c.is_ascii() => write!(escaped, "\\x{:02x}", u32::from(c)),
            _ => write!(escaped, "{}", c.escape_unicode()),
        };
    }
    Cow::Owned(escaped)
}

/// Like [`printable`], for a path or a name that may not be UTF-8: other bytes become `\xNN`.
pub fn printable_path(path: impl AsRef<OsStr>) -> String {
    let mut escaped = String::new();
    for chunk in path.as_ref().as_encoded_bytes().utf8_chunks() {
        escaped.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// A path as bytes for standard output: escaped if that is a terminal, and otherwise as it is.
pub fn path_on_stdout(path: &Path) -> Vec<u8> {
    if io::stdout().is_terminal() {
        printable_path(path).into_bytes()
    } else {
        path.as_os_str().as_encoded_bytes().to_vec()
    }
}

/// A path for a line of text on standard output: escaped with [`printable`], so that it cannot forge
/// another line. Bytes that are not UTF-8 are escaped only on a terminal.
pub fn path_in_text(path: &Path) -> Vec<u8> {
    if io::stdout().is_terminal() {
        return printable_path(path).into_bytes();
    }
    let mut escaped = Vec::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        escaped.extend_from_slice(printable(chunk.valid()).as_bytes());
        escaped.extend_from_slice(chunk.invalid());
    }
    escaped
}

/// Whether a terminal would obey `c` instead of showing it: control characters (C0, DEL and C1), line
/// and paragraph separators, and invisible characters that reorder text or have no width. The joiners
/// U+200C and U+200D are allowed: Persian, Indic scripts and emoji need them.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_control_the_terminal() {
        let cases = [
            ("Bienen ü 蚂蚁 👩\u{200d}🔬", "Bienen ü 蚂蚁 👩\u{200d}🔬"),
            (r"C:\runs\new", r"C:\runs\new"),
            ("a\nerror: b\r\t", r"a\nerror: b\r\t"),
            ("\u{1b}[2J\u{7}\u{7f}\0", r"\x1b[2J\x07\x7f\x00"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            (
                "gpj.\u{202e}\u{2066}\u{2028}",
                r"gpj.\u{202e}\u{2066}\u{2028}",
            ),
            ("\u{feff}\u{200b}\u{200f}", r"\u{feff}\u{200b}\u{200f}"),
        ];
        for (name, escaped) in cases {
            assert_eq!(printable(name), escaped);
            assert_eq!(printable(escaped), escaped);
            assert_eq!(printable_path(name), escaped);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_of_a_path_that_are_not_utf8_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let path = OsStr::from_bytes(b"b\xffe\xc3\xbc\n");
        assert_eq!(printable_path(path), r"b\xffeü\n");
    }
}
