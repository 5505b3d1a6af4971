//! Small parts of sentences: counts with their nouns, paths in commands, what a panic said.

use std::any::Any;

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
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        path.to_string()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
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
        assert_eq!(quoted("runs/train-2"), "runs/train-2");
        assert_eq!(quoted("runs/Bienen ü"), "'runs/Bienen ü'");
        assert_eq!(quoted("$HOME's"), r"'$HOME'\''s'");
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
