//! Layer patterns, such as `features` or `classifier.6`.
//!
//! A pattern is a prefix of whole name components: `classifier.6` covers `classifier.6.weight`, but
//! not `classifier.60.weight`. The empty pattern covers all parameters.

/// Whether `pattern` covers the parameter `name`.
///
/// ```
/// assert!(trainer::pattern::covers("features", "features.0.weight"));
/// assert!(!trainer::pattern::covers("classifier.6", "classifier.60.weight"));
/// ```
pub fn covers(pattern: &str, name: &str) -> bool {
    match name.strip_prefix(pattern) {
        Some(rest) => pattern.is_empty() || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

/// Returns the layer of the parameter `name`, that is, the name without its last component.
pub(crate) fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

/// Returns the distinct layers of the parameters `names`, which must be sorted.
pub(crate) fn layers<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut layers: Vec<String> = names
        .into_iter()
        .map(|name| layer_of(name).to_owned())
        .collect();
    layers.dedup();
    layers
}

/// Returns the most similar pattern that covers one of `names`, if `pattern` is likely a typo of
/// it.
pub(crate) fn nearest<'a>(
    pattern: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let limit = pattern.chars().count().div_ceil(3);
    let prefixes = names.into_iter().flat_map(|name| {
        let cuts = name
            .match_indices('.')
            .map(|(at, _)| at)
            .chain([name.len()]);
        cuts.map(move |at| &name[..at]).collect::<Vec<_>>()
    });
    prefixes
        .map(|prefix| (edit_distance(pattern, prefix), prefix))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, prefix)| prefix.to_owned())
}

/// Computes the Levenshtein distance between two strings.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_components() {
        assert!(covers("classifier.6", "classifier.6.weight"));
        assert!(covers("classifier.6", "classifier.6"));
        assert!(covers("", "anything"));
        assert!(!covers("classifier.6", "classifier.60.weight"));
        assert!(!covers("class", "classifier.6.weight"));
        assert!(!covers("classifier.6.weight.x", "classifier.6.weight"));
    }

    #[test]
    fn nearest_corrects_a_typo() {
        let names = ["classifier.0.weight", "features.0.weight"];
        assert_eq!(nearest("feature", names).as_deref(), Some("features"));
        assert_eq!(
            nearest("clasifier.0", names).as_deref(),
            Some("classifier.0")
        );
        assert_eq!(nearest("backbone", names), None);
    }

    #[test]
    fn edit_distance_is_the_levenshtein_distance() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
