//! Reads a list of paths, such as the standard input of `waggle predict -`.

use std::io::{BufRead, Read as _};
use std::path::PathBuf;

use anyhow::{Context, bail};
use dataset::path_text::path_from_bytes;

use crate::error::Diagnostic;

/// Maximum length of a path in bytes. No system has longer paths.
const MAX_LENGTH: u64 = 96 << 10;

/// Iterator over the paths in a stream, separated by newlines or NUL bytes. Empty paths are skipped,
/// and the last path needs no separator. It ends after the first error.
pub struct PathList<R> {
    reader: R,
    separator: u8,
    number: u64,
    failed: bool,
}

impl<R: BufRead> PathList<R> {
    /// Reads paths from `reader`. With `null`, NUL bytes separate them instead of newlines.
    pub fn new(reader: R, null: bool) -> Self {
        Self {
            reader,
            separator: if null { 0 } else { b'\n' },
            number: 0,
            failed: false,
        }
    }

    /// Reads up to the next separator. Returns `None` at the end of the stream.
    fn read(&mut self) -> anyhow::Result<Option<PathBuf>> {
        loop {
            self.number += 1;
            let mut bytes = Vec::new();
            let mut limited = self.reader.by_ref().take(MAX_LENGTH + 1);
            limited
                .read_until(self.separator, &mut bytes)
                .context("cannot read standard input")?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let is_separated = bytes.last() == Some(&self.separator);
            if is_separated {
                bytes.pop();
            } else if bytes.len() as u64 > MAX_LENGTH {
                return self.refuse("is longer than any path");
            }
            // A line of a file from Windows, unless it is the name of a file as it is.
            if self.separator == b'\n' && bytes.last() == Some(&b'\r') && !exists(&bytes) {
                bytes.pop();
            }
            let is_list = self.separator == 0 && self.number == 1 && !is_separated;
            if is_list && bytes.contains(&b'\n') && !exists(&bytes) {
                bail!(
                    Diagnostic::new("standard input has newlines, but no NUL bytes")
                        .help("leave out `-0` to read one path per line")
                );
            }
            if bytes.contains(&0) {
                return self.refuse("contains a NUL byte");
            }
            if !bytes.is_empty() {
                return match path_from_bytes(bytes) {
                    Some(path) => Ok(Some(path)),
                    None => self.refuse("is not valid UTF-8"),
                };
            }
        }
    }

    fn refuse(&self, problem: &str) -> anyhow::Result<Option<PathBuf>> {
        let (name, help) = match self.separator {
            0 => (
                "path",
                "separate the paths with NUL bytes, or leave out `-0`",
            ),
            _ => (
                "line",
                "write one path per line, or separate the paths with NUL bytes and pass `-0`",
            ),
        };
        let number = self.number;
        bail!(Diagnostic::new(format!("{name} {number} of standard input {problem}")).help(help))
    }
}

/// Whether `bytes` are the path of an existing file.
fn exists(bytes: &[u8]) -> bool {
    path_from_bytes(bytes.to_vec()).is_some_and(|path| path.symlink_metadata().is_ok())
}

impl<R: BufRead> Iterator for PathList<R> {
    type Item = anyhow::Result<PathBuf>;

    fn next(&mut self) -> Option<anyhow::Result<PathBuf>> {
        if self.failed {
            return None;
        }
        let path = self.read();
        self.failed = path.is_err();
        path.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, repeat};
    use std::path::Path;

    use super::*;

    fn paths(bytes: &[u8], null: bool) -> Vec<PathBuf> {
        let paths: anyhow::Result<_> = PathList::new(bytes, null).collect();
        paths.unwrap()
    }

    #[test]
    fn empty_lines_are_skipped_and_the_last_needs_no_newline() {
        assert_eq!(
            paths(b"\n\na b.png\n\nc", false),
            ["a b.png", "c"].map(Path::new)
        );
        assert_eq!(paths(b"", false).len(), 0);
        assert_eq!(paths(b"\n\n", false).len(), 0);
    }

    #[test]
    fn paths_separated_by_nul_may_contain_newlines() {
        assert_eq!(paths(b"a\nb\0\0c\0", true), ["a\nb", "c"].map(Path::new));
    }

    #[test]
    #[cfg(unix)]
    fn bytes_that_are_not_unicode_are_kept() {
        let path = path_from_bytes(b"caf\xe9".to_vec()).unwrap();
        assert_eq!(paths(b"caf\xe9\n", false), [path]);
    }

    #[test]
    #[cfg(unix)]
    fn lines_may_end_in_crlf_but_a_file_whose_name_ends_in_cr_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, odd] = ["a.png", "b.png\r"].map(|name| folder.path().join(name));
        std::fs::write(&odd, b"").unwrap();
        let list = format!("{}\r\n{}\n", plain.display(), odd.display());
        assert_eq!(paths(list.as_bytes(), false), [plain, odd]);
    }

    #[test]
    fn lines_without_nul_bytes_are_an_error_if_nul_bytes_separate_paths() {
        let mut list = PathList::new(&b"a.png\nb.png\n"[..], true);
        let message = list.next().unwrap().unwrap_err().to_string();
        assert_eq!(message, "standard input has newlines, but no NUL bytes");
        assert!(list.next().is_none());
    }

    #[test]
    fn an_endless_line_and_a_nul_byte_in_a_line_are_errors() {
        let endless = |byte| PathList::new(BufReader::new(repeat(byte)), false);
        let mut list = endless(b'x');
        let message = list.next().unwrap().unwrap_err().to_string();
        assert_eq!(message, "line 1 of standard input is longer than any path");
        assert!(list.next().is_none());
        let mut list = PathList::new(&b"a\nb\0c\n"[..], false);
        assert!(list.next().unwrap().is_ok());
        let message = list.next().unwrap().unwrap_err().to_string();
        assert_eq!(message, "line 2 of standard input contains a NUL byte");
    }
}
