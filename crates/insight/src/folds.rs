//! Folds for cross-validation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};

/// Assigns each sample to one of `folds` folds, stratified by class. Returns the fold of each sample.
///
/// The samples of each class are shuffled with `seed` and dealt to the folds in turn, each class
/// continuing where the class before it ended. So the sizes of two folds differ by at most one, and
/// so do their numbers of samples of a class. The result is a function of the arguments.
///
/// # Errors
///
/// Returns an error if there are fewer than two folds, or fewer samples than folds.
pub fn stratified_folds(labels: &[u32], folds: usize, seed: u64) -> Result<Vec<usize>> {
    let samples = labels.len();
    if folds < 2 || samples < folds {
        return Err(Error::Folds { folds, samples });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Sorting by class, then by a random key, shuffles the samples within each class.
    let mut order: Vec<(u32, u64, usize)> = labels
        .iter()
        .enumerate()
        .map(|(sample, &label)| (label, rng.next_u64(), sample))
        .collect();
    order.sort_unstable();
    let mut assigned = vec![0; samples];
    for (position, (.., sample)) in order.into_iter().enumerate() {
        assigned[sample] = position % folds;
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_have_equal_shares_of_each_class() {
        let labels: Vec<u32> = (0..103).map(|sample| (sample * sample) % 7 % 3).collect();
        let folds = stratified_folds(&labels, 5, 1).unwrap();
        assert_eq!(folds, stratified_folds(&labels, 5, 1).unwrap());
        assert_ne!(folds, stratified_folds(&labels, 5, 2).unwrap());
        let is_balanced = |members: &dyn Fn(u32) -> bool| {
            let mut sizes = [0; 5];
            for (&fold, &label) in folds.iter().zip(&labels) {
                sizes[fold] += usize::from(members(label));
            }
            sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1
        };
        assert!(is_balanced(&|_| true));
        for class in 0..3 {
            assert!(is_balanced(&|label| label == class), "{class}");
        }
    }

    #[test]
    fn more_folds_than_samples_are_an_error() {
        assert!(stratified_folds(&[0, 1], 2, 0).is_ok());
        for (labels, folds) in [(&[0, 1][..], 3), (&[0, 1], 1), (&[], 0)] {
            let samples = labels.len();
            let error = stratified_folds(labels, folds, 0).unwrap_err();
            assert_eq!(error, Error::Folds { folds, samples });
        }
    }
}
