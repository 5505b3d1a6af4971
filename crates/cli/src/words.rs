//! Counts with their nouns.

/// `1 picture`, `2 pictures`, `3 classes`, `4 batches`.
pub fn counted(number: usize, noun: &str) -> String {
    let ending = match noun {
        _ if number == 1 => "",
        _ if noun.ends_with('s') || noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_else_is_many() {
        assert_eq!(counted(0, "picture"), "0 pictures");
        assert_eq!(counted(1, "class"), "1 class");
        assert_eq!(counted(2, "class"), "2 classes");
        assert_eq!(counted(1, "batch"), "1 batch");
        assert_eq!(counted(11, "batch"), "11 batches");
    }
}
