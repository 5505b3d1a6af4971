//! Names of the same tensor in torchvision and timm, in one place.
//!
//! | torchvision | timm | |
//! |---|---|---|
//! | `features.N` | `features.N` | the same |
//! | `classifier.0` | `pre_logits.fc1` | a convolution (4096, 512, 7, 7) there, a matrix (4096, 25088) here |
//! | `classifier.3` | `pre_logits.fc2` | (4096, 4096, 1, 1) and (4096, 4096) |
//! | `classifier.6` | `head.fc` | the same |
//!
//! Both flatten in the order channel, row, column, so a reshape turns one into the other.

const PAIRS: [(&str, &str); 3] = [
    ("classifier.0", "pre_logits.fc1"),
    ("classifier.3", "pre_logits.fc2"),
    ("classifier.6", "head.fc"),
];

/// What wrappers put before the names of what they wrap: `DataParallel`, `torch.compile`, a class with a `model`.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// torchvision's name of a tensor that may have timm's, or stand in a wrapper.
pub fn torchvision(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = WRAPPERS
        .iter()
        .find_map(|wrapper| name.strip_prefix(wrapper))
    {
        name = rest;
    }
    translate(name, |(torchvision, timm)| (timm, torchvision))
}

/// Whether it is how many batches a batch norm has seen, which PyTorch keeps beside the weights.
pub(crate) fn is_count(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// timm's name of a tensor that may have torchvision's.
pub fn timm(name: &str) -> String {
    translate(name, |pair| pair)
}

fn translate(
    name: &str,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> String {
    for (from, to) in PAIRS.map(direction) {
        if let Some(rest) = name.strip_prefix(from)
            && rest.starts_with('.')
        {
            return format!("{to}{rest}");
        }
    }
    name.into()
}

/// The shape that a tensor has in torchvision: timm's classifier keeps matrices as convolutions.
pub(crate) fn torchvision_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    if name.starts_with("classifier.") && shape.len() == 4 {
        vec![shape[0], shape[1..].iter().product()]
    } else {
        shape.to_vec()
    }
}

/// The nearest of `candidates` by edit distance, if it is near enough to be meant.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= name.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that turn `a` into `b` (V. Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        for (ours, theirs) in [
            ("classifier.0.weight", "pre_logits.fc1.weight"),
            ("classifier.3.bias", "pre_logits.fc2.bias"),
            ("classifier.6.bias", "head.fc.bias"),
            ("features.28.weight", "features.28.weight"),
        ] {
            assert_eq!(torchvision(theirs), ours);
            assert_eq!(timm(ours), theirs);
            assert_eq!(torchvision(ours), ours);
        }
        assert_eq!(
            torchvision("module.model.head.fc.bias"),
            "classifier.6.bias"
        );
        assert_eq!(timm("classifier.60.bias"), "classifier.60.bias");
    }

    #[test]
    fn the_nearest_name_is_meant_only_when_near() {
        let names = ["features.0.weight", "classifier.6.bias"];
        let nearest = |name| nearest(name, names.into_iter());
        assert_eq!(nearest("feature.0.weight"), Some("features.0.weight"));
        assert_eq!(nearest("optimizer.state"), None);
    }
}
