//! Metrics that follow from a confusion matrix.

use serde::Serialize;

use crate::interval::wilson_interval;

/// The metrics of a confusion matrix, as scikit-learn's `classification_report` with
/// `zero_division=0`: a ratio of 0 to 0 is 0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClassificationReport {
    /// Number of samples.
    pub samples: u64,
    /// Number of correct predictions.
    pub correct: u64,
    /// Fraction of correct predictions.
    pub accuracy: f64,
    /// The [`wilson_interval`] of the accuracy.
    pub accuracy_interval: [f64; 2],
    /// Mean recall of the classes that have samples (`balanced_accuracy_score`).
    pub balanced_accuracy: f64,
    /// Correlation of true and predicted classes, from −1 to 1 (`matthews_corrcoef`). 0 if all samples
    /// are of one class or all predictions are. For `c` correct predictions of `s` samples, `t` samples
    /// and `p` predictions of each class, the sums being over classes:
    ///
    /// ```text
    /// (c·s − Σ t·p) / √((s² − Σ t²)·(s² − Σ p²))
    /// ```
    pub matthews_correlation: f64,
    /// The metrics of each class.
    pub per_class: Vec<ClassMetrics>,
    /// Mean over the classes that have samples or predictions.
    pub macro_average: Average,
    /// Mean over the classes, weighted by their support.
    pub weighted_average: Average,
}

/// The metrics of a class, from its true positives TP, false positives FP and false negatives FN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClassMetrics {
    /// Number of samples of the class: TP + FN.
    pub support: u64,
    /// Number of samples predicted as the class: TP + FP.
    pub predicted: u64,
    /// Number of samples of the class that are predicted as the class: TP.
    pub correct: u64,
    /// TP / (TP + FP).
    pub precision: f64,
    /// TP / (TP + FN).
    pub recall: f64,
    /// The [`wilson_interval`] of the recall.
    pub recall_interval: [f64; 2],
    /// Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).
    pub f1: f64,
}

/// Averages over classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Average {
    /// Average precision of the classes, which is not the area under a precision-recall curve.
    pub precision: f64,
    /// Average recall.
    pub recall: f64,
    /// Average F1.
    pub f1: f64,
}

impl ClassificationReport {
    /// Computes the metrics of a square confusion matrix. Rows are the true classes, columns the
    /// predicted ones. Without samples, all metrics are 0.
    ///
    /// # Panics
    ///
    /// Panics if the matrix is not square.
    pub fn new(confusion: &[Vec<u64>]) -> Self {
        let mut predicted = vec![0; confusion.len()];
        for row in confusion {
            assert_eq!(row.len(), confusion.len(), "the matrix is not square");
            for (sum, count) in predicted.iter_mut().zip(row) {
                *sum += count;
            }
        }
        let classes: Vec<ClassMetrics> = confusion
            .iter()
            .zip(predicted)
            .enumerate()
            .map(|(class, (row, predicted))| {
                ClassMetrics::new(row[class], row.iter().sum(), predicted)
            })
            .collect();
        let samples = classes.iter().map(|class| class.support).sum();
        let correct = classes.iter().map(|class| class.correct).sum();
        let sampled = classes.iter().filter(|class| class.support > 0);
        let occurring = classes
            .iter()
            .filter(|class| class.support > 0 || class.predicted > 0);
        Self {
            samples,
            correct,
            accuracy: ratio(correct, samples),
            accuracy_interval: wilson_interval(correct, samples),
            balanced_accuracy: Average::new(sampled.map(|class| (class, 1.0))).recall,
            matthews_correlation: matthews_correlation(&classes, samples, correct),
            macro_average: Average::new(occurring.map(|class| (class, 1.0))),
            weighted_average: Average::new(
                classes.iter().map(|class| (class, class.support as f64)),
            ),
            per_class: classes,
        }
    }
}

impl ClassMetrics {
    fn new(correct: u64, support: u64, predicted: u64) -> Self {
        Self {
            support,
            predicted,
            correct,
            precision: ratio(correct, predicted),
            recall: ratio(correct, support),
            recall_interval: wilson_interval(correct, support),
            f1: ratio(2 * correct, support + predicted),
        }
    }
}

impl Average {
    /// The mean over classes with weights. 0 if the weights are.
    fn new<'a>(classes: impl Iterator<Item = (&'a ClassMetrics, f64)>) -> Self {
        let (mut total, mut precision, mut recall, mut f1) = (0.0, 0.0, 0.0, 0.0);
        for (class, weight) in classes {
            total += weight;
            precision += weight * class.precision;
            recall += weight * class.recall;
            f1 += weight * class.f1;
        }
        let mean = |sum: f64| if total == 0.0 { 0.0 } else { sum / total };
        Self {
            precision: mean(precision),
            recall: mean(recall),
            f1: mean(f1),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

fn matthews_correlation(classes: &[ClassMetrics], samples: u64, correct: u64) -> f64 {
    let sum = |term: fn(&ClassMetrics) -> (u64, u64)| -> f64 {
        let terms = classes.iter().map(term);
        terms.map(|(a, b)| a as f64 * b as f64).sum()
    };
    let all = samples as f64 * samples as f64;
    let covariance =
        correct as f64 * samples as f64 - sum(|class| (class.support, class.predicted));
    let variances = (all - sum(|class| (class.support, class.support)))
        * (all - sum(|class| (class.predicted, class.predicted)));
    if variances == 0.0 {
        return 0.0;
    }
    covariance / variances.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_ratios_are_0_and_absent_classes_are_left_out_of_means() {
        // Class 1 has no samples, class 2 no predictions, class 3 neither.
        let report = ClassificationReport::new(&[
            vec![2, 2, 0, 0],
            vec![0, 0, 0, 0],
            vec![1, 0, 0, 0],
            vec![0, 0, 0, 0],
        ]);
        let rows: Vec<_> = report
            .per_class
            .iter()
            .map(|class| (class.precision, class.recall, class.f1, class.support))
            .collect();
        let third = 2.0 / 3.0;
        assert_eq!(
            rows,
            [
                (third, 0.5, 4.0 / 7.0, 4),
                (0.0, 0.0, 0.0, 0),
                (0.0, 0.0, 0.0, 1),
                (0.0, 0.0, 0.0, 0)
            ]
        );
        assert_eq!(report.per_class[1].recall_interval, [0.0, 1.0]);
        assert_eq!(report.balanced_accuracy, 0.25);
        assert_eq!(report.macro_average.recall, 0.5 / 3.0);
        assert_eq!(report.macro_average.precision, third / 3.0);
        assert_eq!(report.weighted_average.recall, 0.4);
        assert_eq!((report.correct, report.samples), (2, 5));
    }

    #[test]
    fn a_single_class_and_no_samples_have_no_correlation() {
        let report = ClassificationReport::new(&[vec![3, 1], vec![0, 0]]);
        assert_eq!(report.matthews_correlation, 0.0);
        assert_eq!(report.accuracy, 0.75);
        let report = ClassificationReport::new(&[vec![0, 0], vec![0, 0]]);
        assert_eq!((report.accuracy, report.balanced_accuracy), (0.0, 0.0));
        assert_eq!(report.weighted_average.f1, 0.0);
        let report = ClassificationReport::new(&[vec![0, 3], vec![2, 0]]);
        assert_eq!(report.matthews_correlation, -1.0);
    }
}
