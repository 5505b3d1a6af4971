//! Quotes paths in the commands suggested by messages.

/// Quotes a path for the shell if it needs quotes.
pub fn quote(path: &str) -> String {
    quote_for(path, cfg!(windows))
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
