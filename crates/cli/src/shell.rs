//! Quotes paths in the commands suggested by messages.

use std::ffi::OsStr;
use std::fmt::Write as _;

use crate::ui::text::is_unprintable;

/// Quotes a path for the shell if it needs quotes. On Unix, the result has no unprintable characters.
pub fn quote(path: impl AsRef<OsStr>) -> String {
    let path = path.as_ref();
    match path.to_str() {
        Some(text) if cfg!(windows) || !text.contains(is_unprintable) => {
            quote_for(text, cfg!(windows))
        }
        _ => dollar_quote(path.as_encoded_bytes()),
    }
}

fn quote_for(path: &str, windows: bool) -> String {
    // PowerShell treats a comma as a list separator and expands a variable after an @.
    let plain = if windows { r"\/._-+:" } else { "/._-+,:@%" };
    let is_plain = |c: char| c.is_alphanumeric() || plain.contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        path.to_string()
    } else if windows {
        // Both cmd.exe and PowerShell accept most names in double quotes. A file name cannot
        // contain a double quote, but a $ or % may still be expanded as a variable. A trailing
        // backslash would escape the closing quote.
        format!("\"{}\"", path.trim_end_matches('\\'))
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// Quotes bytes as `$'…'`, which POSIX shells since 2024, bash, ksh and zsh read. Octal escapes have
/// three digits in all of them.
fn dollar_quote(path: &[u8]) -> String {
    let mut quoted = "$'".to_string();
    let push_octal = |quoted: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing into a string cannot fail.
            let _ = write!(quoted, "\\{byte:03o}");
        }
    };
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => quoted.extend(['\\', c]),
                _ if is_unprintable(c) => {
                    push_octal(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => quoted.push(c),
            }
        }
        push_octal(&mut quoted, chunk.invalid());
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_paths_are_quoted_only_if_the_shell_would_split_or_expand_them() {
        let quote = |path| quote_for(path, false);
        assert_eq!(quote("runs/train-2"), "runs/train-2");
        assert_eq!(quote("runs/Bienen ü"), "'runs/Bienen ü'");
        assert_eq!(quote("$HOME's"), r"'$HOME'\''s'");
    }

    #[cfg(unix)]
    #[test]
    fn quoted_paths_with_control_characters_paste_into_bash() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let path = b"run's \\ \x1b[2J1\n\xff\xe2\x80\xae".to_vec();
        let quoted = quote(std::ffi::OsString::from_vec(path.clone()));
        assert_eq!(quoted, r"$'run\'s \\ \033[2J1\012\377\342\200\256'");
        let mut bash = std::process::Command::new("bash");
        let output = bash.arg("-c").arg(format!("printf %s {quoted}")).output();
        assert_eq!(
            OsStr::from_bytes(&output.unwrap().stdout),
            OsStr::from_bytes(&path)
        );
    }

    #[test]
    fn windows_paths_are_quoted_for_cmd_and_powershell() {
        let quote = |path| quote_for(path, true);
        assert_eq!(quote(r"C:\runs\train"), r"C:\runs\train");
        assert_eq!(quote(r"C:\my runs"), r#""C:\my runs""#);
        assert_eq!(quote(r"C:\my runs\"), r#""C:\my runs""#);
        assert_eq!(quote("ants,bees"), r#""ants,bees""#);
        assert_eq!(quote("@runs"), r#""@runs""#);
    }
}
