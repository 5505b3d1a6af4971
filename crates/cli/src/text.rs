//! Formats counts with a singular or plural noun.

/// A count with its noun: `1 image`, `2 images`, `3 classes`, `4 batches`.
pub fn pluralize(count: usize, noun: &str) -> String {
    let ending = match noun {
        _ if count == 1 => "",
        "batch" | "class" => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(pluralize(0, "image"), "0 images");
        assert_eq!(pluralize(1, "class"), "1 class");
        assert_eq!(pluralize(2, "class"), "2 classes");
        assert_eq!(pluralize(1, "batch"), "1 batch");
        assert_eq!(pluralize(11, "batch"), "11 batches");
        assert_eq!(pluralize(3, "epoch"), "3 epochs");
    }
}
