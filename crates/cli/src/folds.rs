//! Folds for cross-validation.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dataset::Stream;

/// Assigns each sample to one of `count` folds. Returns the fold of each sample.
///
/// Samples of the same group are in the same fold. The groups are placed in random order, large ones
/// first, each into the fold that has the fewest samples of its classes, and among these into the
/// smallest. If every sample is its own group, the numbers of samples of a class differ by at most one
/// between folds. The result is a function of the arguments.
pub fn stratified(labels: &[u32], groups: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (sample, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(sample);
    }
    let mut order: Vec<Vec<usize>> = members.into_values().collect();
    order.sort_by_cached_key(|group| {
        let random = Stream::new(seed, 0, group[0] as u64).bits();
        (Reverse(group.len()), random)
    });
    let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let mut counts = vec![vec![0_usize; classes]; count];
    let mut sizes = vec![0; count];
    let mut folds = vec![0; labels.len()];
    for group in order {
        let of_classes = |fold: usize| -> usize {
            let labels = group.iter().map(|&sample| labels[sample] as usize);
            labels.map(|label| counts[fold][label]).sum()
        };
        let fold = (0..count).min_by_key(|&fold| (of_classes(fold), sizes[fold]));
        let fold = fold.expect("there is at least one fold");
        for &sample in &group {
            folds[sample] = fold;
            counts[fold][labels[sample] as usize] += 1;
            sizes[fold] += 1;
        }
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(folds: &[usize], is_member: impl Fn(usize) -> bool) -> [usize; 5] {
        let mut sizes = [0; 5];
        for (sample, &fold) in folds.iter().enumerate() {
            sizes[fold] += usize::from(is_member(sample));
        }
        sizes
    }

    #[test]
    fn every_fold_has_the_same_share_of_each_class() {
        let labels: Vec<u32> = (0..103).map(|sample| sample * sample % 7 % 3).collect();
        let groups: Vec<usize> = (0..103).collect();
        let folds = stratified(&labels, &groups, 5, 1);
        assert_eq!(folds, stratified(&labels, &groups, 5, 1));
        assert_ne!(folds, stratified(&labels, &groups, 5, 2));
        for class in 0..3 {
            let sizes = sizes(&folds, |sample| labels[sample] == class);
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{class}: {sizes:?}");
        }
        let sizes = sizes(&folds, |_| true);
        assert!(
            sizes.iter().all(|size| (20..=21).contains(size)),
            "{sizes:?}"
        );
    }

    #[test]
    fn duplicates_are_in_the_same_fold() {
        let labels: Vec<u32> = (0..40).map(|sample| sample % 2).collect();
        // Three groups of six, four and two samples, also of different classes.
        let group = |sample: usize| match sample {
            0..6 => 0,
            10..14 => 10,
            20 | 31 => 20,
            other => other,
        };
        let groups: Vec<usize> = (0..40).map(group).collect();
        let folds = stratified(&labels, &groups, 5, 3);
        for sample in 0..40 {
            assert_eq!(folds[sample], folds[group(sample)], "{sample}");
        }
        let sizes = sizes(&folds, |_| true);
        assert!(
            sizes.iter().all(|size| (6..=10).contains(size)),
            "{sizes:?}"
        );
    }
}
