//! Small parts of sentences: counts with their nouns, paths, what a panic said.

use std::any::Any;
use std::path::Path;

/// `1 picture`, `2 pictures`, `3 classes`, `4 batches`.
pub fn counted(number: usize, noun: &str) -> String {
    let ending = match noun {
        _ if number == 1 => "",
        "batch" | "class" => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// A path as a shell takes it: in quotes where it needs them.
pub fn quoted(path: &str) -> String {
    quoted_for(path, cfg!(windows))
}

fn quoted_for(path: &str, windows: bool) -> String {
    // PowerShell makes a list of what has a comma in it, and looks for a variable after an @.
    let plain = if windows { r"\/._-+:" } else { "/._-+,:@%" };
    let is_plain = |c: char| c.is_alphanumeric() || plain.contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        path.to_string()
    } else if windows {
        // As both of its shells take most names: no file's name has such a quote in it, but a $ or % may stand for a
        // variable. A backslash before the last quote would belong to it.
        format!("\"{}\"", path.trim_end_matches('\\'))
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// `path` below `root`, with forward slashes on every system: what is kept in a file should be the same on all.
pub fn below(root: &Path, path: &Path) -> String {
    let Ok(inner) = path.strip_prefix(root) else {
        return path.display().to_string();
    };
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// What a panic said, if it was words.
pub fn of_panic(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_read_whether_its_words_were_put_together_or_not() {
        let said = |panic: fn()| {
            let payload = std::panic::catch_unwind(panic).unwrap_err();
            of_panic(payload.as_ref()).map(str::to_owned)
        };
        assert_eq!(said(|| panic!("as it is")).as_deref(), Some("as it is"));
        let number = || panic!("number {}", "7".parse::<u8>().unwrap());
        assert_eq!(said(number).as_deref(), Some("number 7"));
        assert_eq!(said(|| std::panic::panic_any(7)), None);
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_split_it() {
        let unix = |path| quoted_for(path, false);
        assert_eq!(unix("runs/train-2"), "runs/train-2");
        assert_eq!(unix("runs/Bienen ü"), "'runs/Bienen ü'");
        assert_eq!(unix("$HOME's"), r"'$HOME'\''s'");
        let windows = |path| quoted_for(path, true);
        assert_eq!(windows(r"C:\runs\train"), r"C:\runs\train");
        assert_eq!(windows(r"C:\my runs"), r#""C:\my runs""#);
        assert_eq!(windows(r"C:\my runs\"), r#""C:\my runs""#);
        assert_eq!(windows("ants,bees"), r#""ants,bees""#);
        assert_eq!(windows("@runs"), r#""@runs""#);
    }

    #[test]
    fn a_path_below_another_is_written_the_same_on_every_system() {
        let root = Path::new("data").join("bees");
        let path = root.join("train").join("ants").join("1.jpg");
        assert_eq!(below(&root, &path), "train/ants/1.jpg");
        assert_eq!(below(&path, &root), root.display().to_string());
    }

    #[test]
    fn one_is_one_and_all_else_is_many() {
        assert_eq!(counted(0, "picture"), "0 pictures");
        assert_eq!(counted(1, "class"), "1 class");
        assert_eq!(counted(2, "class"), "2 classes");
        assert_eq!(counted(1, "batch"), "1 batch");
        assert_eq!(counted(11, "batch"), "11 batches");
        assert_eq!(counted(3, "epoch"), "3 epochs");
    }
}
