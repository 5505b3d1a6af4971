//! Metrics of the predicted probabilities.

use serde::Serialize;

use crate::scores::Scores;

/// The usual number of bins of the expected calibration error and the reliability diagram.
pub const CALIBRATION_BINS: usize = 15;

/// Mean cross-entropy loss in nats: −ln p(label). PyTorch's `cross_entropy`, and scikit-learn's
/// `log_loss` without its limit on small probabilities. NaN without samples.
pub fn log_loss(scores: &Scores) -> f64 {
    scores.losses().iter().sum::<f64>() / scores.len() as f64
}

/// Mean squared distance of the probabilities from the one-hot label, summed over classes: from 0 to
/// 2 for any number of classes (`brier_score_loss` with `scale_by_half=False`). NaN without samples.
pub fn brier_score(scores: &Scores) -> f64 {
    let sum: f64 = scores
        .log_probabilities()
        .zip(scores.labels())
        .map(|(row, &label)| squared_distance(&row, label as usize))
        .sum();
    sum / scores.len() as f64
}

fn squared_distance(log_probabilities: &[f64], label: usize) -> f64 {
    let terms = log_probabilities.iter().enumerate();
    terms
        .map(|(class, value)| (value.exp() - f64::from(class == label)).powi(2))
        .sum()
}

/// The samples whose largest probability is in the same interval: one bar of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// Lower bound of the interval.
    pub low: f64,
    /// Upper bound of the interval, exclusive except for 1.
    pub high: f64,
    /// Number of samples.
    pub count: u64,
    /// Mean of the largest probability. 0 without samples.
    pub confidence: f64,
    /// Fraction of correct predictions. 0 without samples.
    pub accuracy: f64,
}

/// Groups the samples by their largest probability into `bins` intervals of equal width from 0 to 1.
///
/// # Panics
///
/// Panics if `bins` is 0.
pub fn reliability_bins(scores: &Scores, bins: usize) -> Vec<ReliabilityBin> {
    let mut sums = bin_sums(scores, bins);
    // The bin for probabilities of 1.
    let certain = sums.pop().unwrap_or_default();
    sums[bins - 1].add(certain);
    let width = 1.0 / bins as f64;
    let bin = |(index, sum): (usize, &BinSum)| {
        let mean = |total: f64| total / sum.count.max(1) as f64;
        ReliabilityBin {
            low: index as f64 * width,
            high: (index + 1) as f64 * width,
            count: sum.count,
            confidence: mean(sum.confidence),
            accuracy: mean(sum.correct as f64),
        }
    };
    sums.iter().enumerate().map(bin).collect()
}

/// The expected calibration error: the mean over `bins` intervals of |accuracy − confidence|, weighted
/// by their numbers of samples. The same as torchmetrics' `multiclass_calibration_error`, which puts
/// probabilities of 1, rounded to float32, into a bin of their own. NaN without samples.
///
/// # Panics
///
/// Panics if `bins` is 0.
pub fn expected_calibration_error(scores: &Scores, bins: usize) -> f64 {
    let sums = bin_sums(scores, bins);
    let gaps = sums
        .iter()
        .map(|sum| (sum.correct as f64 - sum.confidence).abs());
    gaps.sum::<f64>() / scores.len() as f64
}

#[derive(Clone, Copy, Debug, Default)]
struct BinSum {
    count: u64,
    correct: u64,
    confidence: f64,
}

impl BinSum {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.correct += other.correct;
        self.confidence += other.confidence;
    }
}

/// The sums of `bins` intervals, and of the probabilities that are 1 in float32.
fn bin_sums(scores: &Scores, bins: usize) -> Vec<BinSum> {
    assert!(bins > 0, "there are no bins");
    let mut sums = vec![BinSum::default(); bins + 1];
    let predictions = scores.predictions().zip(scores.labels());
    for (row, (prediction, &label)) in scores.log_probabilities().zip(predictions) {
        let confidence = row[prediction as usize].exp();
        let rounded = f64::from(confidence as f32);
        sums[(rounded * bins as f64) as usize].add(BinSum {
            count: 1,
            correct: u64::from(prediction == label),
            confidence,
        });
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_predictions_are_in_the_last_bin_of_the_diagram() {
        let logits = vec![100.0, 0.0, 100.0, 0.0, 3.0, 0.0];
        let scores = Scores::new(2, logits, vec![0, 1, 0]).unwrap();
        let bins = reliability_bins(&scores, 15);
        assert_eq!(bins.len(), 15);
        let p = 1.0 / (1.0 + f64::exp(-3.0));
        assert_eq!((bins[13].count, bins[14].count), (0, 3));
        assert!((bins[14].confidence - (2.0 + p) / 3.0).abs() < 1e-12);
        assert!((bins[14].accuracy - 2.0 / 3.0).abs() < 1e-12);
        // The bin of probabilities of 1 has accuracy 0.5, the one below accuracy 1.
        let error = expected_calibration_error(&scores, 15);
        assert!((error - (1.0 + (1.0 - p)) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_brier_score_is_2_for_certain_errors() {
        let scores = Scores::new(3, vec![100.0, 0.0, 0.0], vec![1]).unwrap();
        assert!((brier_score(&scores) - 2.0).abs() < 1e-12);
        let uniform = Scores::new(4, vec![0.5; 4], vec![3]).unwrap();
        assert!((brier_score(&uniform) - 0.75).abs() < 1e-12);
        assert!((log_loss(&uniform) - f64::ln(4.0)).abs() < 1e-12);
    }
}
