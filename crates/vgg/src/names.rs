//! Conversion between the tensor names of torchvision and timm.
//!
//! | torchvision | timm | shape in torchvision | shape in timm |
//! |---|---|---|---|
//! | `features.N` | `features.N` | (out, in, 3, 3) | (out, in, 3, 3) |
//! | `classifier.0` | `pre_logits.fc1` | (4096, 25088) | (4096, 512, 7, 7) |
//! | `classifier.3` | `pre_logits.fc2` | (4096, 4096) | (4096, 4096, 1, 1) |
//! | `classifier.6` | `head.fc` | (1000, 4096) | (1000, 4096) |
//!
//! Both libraries flatten features in the order channel, row, column, so a reshape converts between
//! the two shapes of a tensor.

const PAIRS: [(&str, &str); 3] = [
    ("classifier.0", "pre_logits.fc1"),
    ("classifier.3", "pre_logits.fc2"),
    ("classifier.6", "head.fc"),
];

/// Prefixes added by wrappers: `DataParallel`, `torch.compile`, and classes with a field `model`.
const WRAPPER_PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Converts a tensor name from timm or torchvision to torchvision's name, and removes prefixes
/// added by wrappers.
pub fn to_torchvision(name: &str) -> String {
    translated(without_wrappers(name))
}

/// Converts a tensor name from timm or torchvision to torchvision's name.
pub(crate) fn translated(name: &str) -> String {
    translate(name, |(torchvision, timm)| (timm, torchvision))
}

/// Removes the prefixes added by wrappers.
pub(crate) fn without_wrappers(mut name: &str) -> &str {
    let strip = |name| {
        WRAPPER_PREFIXES
            .iter()
            .find_map(|prefix| str::strip_prefix(name, prefix))
    };
    while let Some(rest) = strip(name) {
        name = rest;
    }
    name
}

/// Removes wrappers from the end of a prefix: `features.module.` becomes `features.`.
pub(crate) fn without_wrapper_suffixes(mut parents: &str) -> &str {
    let strip = |parents| {
        WRAPPER_PREFIXES
            .iter()
            .find_map(|suffix| str::strip_suffix(parents, suffix))
    };
    while let Some(rest) = strip(parents) {
        parents = rest;
    }
    parents
}

/// Whether `name` is a batch norm's `num_batches_tracked`, which PyTorch stores with the weights.
pub(crate) fn is_batch_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// Converts a torchvision tensor name to timm's name.
pub fn to_timm(name: &str) -> String {
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

/// Converts a tensor shape to torchvision's layout. timm stores the weights of the first two linear
/// layers as convolution weights.
pub(crate) fn torchvision_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    if name.starts_with("classifier.") && shape.len() == 4 {
        // The product saturates, because an untrusted file can contain an empty tensor with
        // dimensions whose product overflows.
        let columns = shape[1..]
            .iter()
            .fold(1usize, |product, &dim| product.saturating_mul(dim));
        vec![shape[0], columns]
    } else {
        shape.to_vec()
    }
}

/// Maximum length of a compared name in bytes. The comparison takes time proportional to the
/// product of both lengths.
const MAX_COMPARED_LENGTH: usize = 100;

/// Returns the candidate with the smallest edit distance to `name`, if the distance is at most a
/// third of the length of `name`. Returns `None` for names of more than [`MAX_COMPARED_LENGTH`]
/// bytes.
pub(crate) fn most_similar<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > MAX_COMPARED_LENGTH {
        return None;
    }
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= name.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// Computes the Levenshtein distance between `a` and `b`.
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
    fn names_are_converted_both_ways() {
        for (torchvision, timm) in [
            ("classifier.0.weight", "pre_logits.fc1.weight"),
            ("classifier.3.bias", "pre_logits.fc2.bias"),
            ("classifier.6.bias", "head.fc.bias"),
            ("features.28.weight", "features.28.weight"),
        ] {
            assert_eq!(to_torchvision(timm), torchvision);
            assert_eq!(to_timm(torchvision), timm);
            assert_eq!(to_torchvision(torchvision), torchvision);
        }
        assert_eq!(
            to_torchvision("module.model.head.fc.bias"),
            "classifier.6.bias"
        );
        assert_eq!(to_timm("classifier.60.bias"), "classifier.60.bias");
    }

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["features.0.weight", "classifier.6.bias"];
        let most_similar = |name| most_similar(name, names.into_iter());
        assert_eq!(most_similar("feature.0.weight"), Some("features.0.weight"));
        assert_eq!(most_similar("optimizer.state"), None);
    }
}
