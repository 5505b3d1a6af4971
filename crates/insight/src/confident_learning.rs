//! Suspected label errors, from predicted probabilities.
//!
//! The probabilities have to be those of models that were not trained on the sample they judge.
//!
//! The two methods are those of C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating
//! Uncertainty in Dataset Labels", JAIR 70 (2021), with the results of cleanlab 2.9's
//! `find_label_issues`. Both start from the same guess at the true class: a sample confidently belongs
//! to class k if its probability of k is at least the mean probability of k among the samples
//! labeled k.

use crate::error::{Error, Result};
use crate::scores::{argmax, check_labels};

/// Tolerance for comparing probabilities.
const TOLERANCE: f64 = 1e-6;

/// The class probabilities and the given label of each sample of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct LabeledProbabilities {
    classes: usize,
    /// Shape (samples, classes), row-major.
    values: Vec<f64>,
    labels: Vec<u32>,
}

impl LabeledProbabilities {
    /// Takes the probabilities, shape (samples, classes) in row-major order, and the class index that
    /// each sample is labeled with. The rows need not sum to 1.
    ///
    /// # Errors
    ///
    /// Returns an error if there are fewer than two classes, if the shapes do not fit, if a label is
    /// not a class, or if a probability is not between 0 and 1, give or take 1e-6.
    pub fn new(classes: usize, values: Vec<f64>, labels: Vec<u32>) -> Result<Self> {
        let samples = labels.len();
        if classes < 2 || samples.checked_mul(classes) != Some(values.len()) {
            let values = values.len();
            return Err(Error::ProbabilityShape {
                values,
                samples,
                classes,
            });
        }
        check_labels(&labels, classes)?;
        let valid = -TOLERANCE..=1.0 + TOLERANCE;
        if let Some(index) = values.iter().position(|value| !valid.contains(value)) {
            let (sample, class) = (index / classes, index % classes);
            return Err(Error::Probability { sample, class });
        }
        Ok(Self {
            classes,
            values,
            labels,
        })
    }

    /// The probability of each sample's given label. Low values are doubtful.
    pub fn self_confidence(&self) -> Vec<f64> {
        self.samples().map(|(row, label)| row[label]).collect()
    }

    /// (p − q + 1) / 2 for each sample, where p is the probability of the given label and q the largest
    /// probability of another class. Low values are doubtful; below 0.5, another class is more
    /// probable.
    pub fn normalized_margin(&self) -> Vec<f64> {
        let margin = |(row, label): (&[f64], usize)| {
            let others = (0..row.len()).filter(|&class| class != label);
            let other = others.map(|class| row[class]).fold(f64::MIN, f64::max);
            (row[label] - other + 1.0) / 2.0
        };
        self.samples().map(margin).collect()
    }

    /// The indices of the samples that confidently belong to another class than their label, in
    /// ascending order, as with cleanlab's `filter_by="confident_learning"`.
    ///
    /// A sample that confidently belongs to several classes counts for its most probable class. Samples
    /// whose label is the most probable class, give or take 1e-6, are not included.
    pub fn confident_learning(&self) -> Vec<usize> {
        let guesses = self.confident_classes();
        self.issues(|sample| {
            guesses[sample].is_some_and(|class| class != self.labels[sample] as usize)
        })
    }

    /// The indices of the samples that are likely to be mislabeled by the estimated noise rates, in
    /// ascending order, as with cleanlab's `filter_by="prune_by_noise_rate"`, `frac_noise=1` and
    /// `min_examples_per_class=1`.
    ///
    /// The counts of the confident guesses, scaled to the number of samples with each label, estimate how
    /// many samples labeled k truly belong to j. For each pair, the result includes that many samples
    /// labeled k, those with the largest p(j) − p(k); the smaller index wins a tie. Samples whose label
    /// is the most probable class, give or take 1e-6, are not included.
    pub fn prune_by_noise_rate(&self) -> Vec<usize> {
        let mut is_pruned = vec![false; self.labels.len()];
        for (label, errors) in self.estimated_errors().iter().enumerate() {
            let members = (0..self.labels.len()).filter(|&i| self.labels[i] as usize == label);
            let members: Vec<usize> = members.collect();
            if members.len() < 2 {
                continue;
            }
            for (class, &count) in errors.iter().enumerate() {
                if class == label || count == 0 {
                    continue;
                }
                let margin = |&sample: &usize| {
                    let row = self.row(sample);
                    row[class] - row[label]
                };
                let mut order = members.clone();
                order.sort_by(|a, b| margin(b).total_cmp(&margin(a)));
                for &sample in order.iter().take(count) {
                    is_pruned[sample] = true;
                }
            }
        }
        self.issues(|sample| is_pruned[sample])
    }

    /// The most probable class of each sample. The first class wins a tie.
    pub fn predictions(&self) -> Vec<u32> {
        self.samples().map(|(row, _)| argmax(row) as u32).collect()
    }

    fn row(&self, sample: usize) -> &[f64] {
        &self.values[sample * self.classes..][..self.classes]
    }

    /// The probabilities and the label of each sample.
    fn samples(&self) -> impl Iterator<Item = (&[f64], usize)> {
        let rows = self.values.chunks_exact(self.classes);
        rows.zip(self.labels.iter().map(|&label| label as usize))
    }

    /// The suspected samples whose label is not the most probable class. The label wins ties, and
    /// differences of at most [`TOLERANCE`].
    fn issues(&self, is_suspected: impl Fn(usize) -> bool) -> Vec<usize> {
        let is_issue = |&sample: &usize| {
            let label = self.labels[sample] as usize;
            let mut row = self.row(sample).to_vec();
            row[label] += TOLERANCE;
            is_suspected(sample) && argmax(&row) != label
        };
        (0..self.labels.len()).filter(is_issue).collect()
    }

    /// The mean probability of each class among the samples labeled with it. Infinite for classes that
    /// are not a label, so that no sample confidently belongs to them.
    fn thresholds(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes];
        for (row, label) in self.samples() {
            sums[label] += row[label];
        }
        let means = sums.into_iter().zip(self.label_counts());
        means
            .map(|(sum, count)| match count {
                0 => f64::INFINITY,
                // A class whose probability is always 0 needs a threshold above the tolerance.
                _ => (sum / count as f64).max(2.0 * TOLERANCE),
            })
            .collect()
    }

    fn label_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The class that each sample confidently belongs to, if any.
    fn confident_classes(&self) -> Vec<Option<usize>> {
        let thresholds = self.thresholds();
        let guess = |(row, _): (&[f64], usize)| {
            let reached = |&class: &usize| row[class] >= thresholds[class] - TOLERANCE;
            let mut confident = (0..row.len()).filter(reached);
            match (confident.next(), confident.next()) {
                (Some(_), Some(_)) => Some(argmax(row)),
                (only, _) => only,
            }
        };
        self.samples().map(guess).collect()
    }

    /// Estimates how many samples labeled k (row) truly belong to j (column). The diagonal has no
    /// meaning.
    fn estimated_errors(&self) -> Vec<Vec<usize>> {
        let mut joint = vec![vec![0.0_f64; self.classes]; self.classes];
        for (guess, (_, label)) in self.confident_classes().into_iter().zip(self.samples()) {
            if let Some(class) = guess {
                joint[label][class] += 1.0;
            }
        }
        // Each row is scaled to the number of samples with that label. Every class counts at least one
        // correct sample.
        for (label, (row, count)) in joint.iter_mut().zip(self.label_counts()).enumerate() {
            row[label] = row[label].max(1.0);
            let total: f64 = row.iter().sum();
            for value in row {
                *value = *value / total * count as f64;
            }
        }
        // The sum is the number of samples up to rounding errors, but these decide which of two equal
        // remainders is rounded up. The operations and their order are cleanlab's, by columns.
        let columns = (0..self.classes).flat_map(|class| joint.iter().map(move |row| row[class]));
        let sum = numpy_sum(&columns.collect::<Vec<f64>>());
        for value in joint.iter_mut().flatten() {
            *value = *value / sum * self.labels.len() as f64;
        }
        let rows = joint.iter().enumerate();
        rows.map(|(label, row)| {
            let mut counts = round_with_same_sum(row);
            if counts[label] == 0 {
                // One sample of each class remains: cleanlab takes it from every other count.
                counts
                    .iter_mut()
                    .for_each(|count| *count = count.saturating_sub(1));
            }
            counts
        })
        .collect()
    }
}

/// Rounds values that are not negative to integers with the same sum.
///
/// Each value is rounded, half to even. If the sum is too small, the values that were rounded down the
/// most are incremented, and among equals the last. If it is too large, those that were rounded up
/// the most are decremented, and among equals the first.
fn round_with_same_sum(values: &[f64]) -> Vec<usize> {
    let mut rounded: Vec<f64> = values.iter().map(|value| value.round_ties_even()).collect();
    let sum = values.iter().sum::<f64>().round_ties_even();
    let missing = sum - rounded.iter().sum::<f64>();
    let mut order: Vec<usize> = (0..values.len()).collect();
    let remainder = |&index: &usize| values[index] - values[index].round_ties_even();
    order.sort_by(|a, b| remainder(a).total_cmp(&remainder(b)));
    if missing > 0.0 {
        order.reverse();
    }
    // Rounding changes each value by at most half, so fewer values than there are have to change.
    for &index in order.iter().take(missing.abs() as usize) {
        rounded[index] += missing.signum();
    }
    rounded.into_iter().map(|value| value as usize).collect()
}

/// The sum in the order of additions of numpy: pairwise, with eight partial sums.
fn numpy_sum(values: &[f64]) -> f64 {
    if values.len() > 128 {
        let half = values.len() / 2 / 8 * 8;
        return numpy_sum(&values[..half]) + numpy_sum(&values[half..]);
    }
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    let mut s = [0.0; 8];
    for chunk in chunks {
        for (sum, value) in s.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    rest.iter().fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shapes_labels_and_probabilities_are_errors() {
        let new = LabeledProbabilities::new;
        assert!(new(2, vec![0.5; 6], vec![0, 1, 0]).is_ok());
        assert!(new(2, Vec::new(), Vec::new()).is_ok());
        for (classes, values, labels) in [(2, 5, 3), (1, 3, 3), (0, 0, 0), (2, 6, 4)] {
            let error = new(classes, vec![0.5; values], vec![0; labels]).unwrap_err();
            assert!(matches!(error, Error::ProbabilityShape { .. }), "{error}");
        }
        let error = new(2, vec![0.5; 4], vec![1, 2]).unwrap_err();
        assert!(matches!(error, Error::Label { sample: 1, .. }), "{error}");
        for value in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            let error = new(2, vec![0.5, 0.5, 0.0, value], vec![0, 0]).unwrap_err();
            let (sample, class) = (1, 1);
            assert_eq!(error, Error::Probability { sample, class });
        }
    }

    #[test]
    fn rounding_keeps_the_sum() {
        for (values, expected) in [
            (vec![1.2, 3.8], vec![1, 4]),
            // Half to even gives 2 and 2.
            (vec![2.5, 2.5], vec![2, 3]),
            // Half to even gives 2, 2 and 0.
            (vec![1.5, 1.5, 0.0], vec![1, 2, 0]),
            (vec![0.4, 0.4, 0.4, 0.4, 0.4], vec![0, 0, 0, 1, 1]),
            (vec![0.0, 0.0], vec![0, 0]),
        ] {
            assert_eq!(round_with_same_sum(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn an_empty_set_has_no_issues() {
        let empty = LabeledProbabilities::new(3, Vec::new(), Vec::new()).unwrap();
        assert_eq!(empty.confident_learning(), Vec::<usize>::new());
        assert_eq!(empty.prune_by_noise_rate(), Vec::<usize>::new());
        assert_eq!(empty.normalized_margin(), Vec::<f64>::new());
    }
}
