//! Losses and counts, summed over samples, and the confusion matrix.

use serde::{Deserialize, Serialize};

/// Sums over the samples of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Sum of the samples' losses: each batch's mean times its size.
    pub loss_sum: f64,
    /// Samples whose predicted class is right.
    pub correct: u64,
    /// Samples so far.
    pub samples: u64,
}

impl EpochMetrics {
    /// Adds a batch by its mean loss.
    pub fn add(&mut self, mean_loss: f64, correct: usize, samples: usize) {
        self.loss_sum += mean_loss * samples as f64;
        self.correct += correct as u64;
        self.samples += samples as u64;
    }

    /// Mean loss over the samples; NaN without any.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.samples as f64
    }

    /// Correct predictions over all; NaN without any.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }
}

/// A batch that is done, and the pass up to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The batch, counted from 0.
    pub batch: usize,
    /// Its own mean loss.
    pub batch_loss: f64,
    /// Mean loss of the pass so far.
    pub loss: f64,
    /// Accuracy of the pass so far.
    pub accuracy: f64,
    /// Samples done so far.
    pub samples: u64,
    /// Samples of the whole pass.
    pub samples_total: u64,
}

impl Progress {
    pub(crate) fn new(
        batch: usize,
        batch_loss: f64,
        metrics: &EpochMetrics,
        samples_total: usize,
    ) -> Self {
        let (loss, accuracy) = (metrics.mean_loss(), metrics.accuracy());
        Self {
            batch,
            batch_loss,
            loss,
            accuracy,
            samples: metrics.samples,
            samples_total: samples_total as u64,
        }
    }
}

/// How often each class was taken for which: rows are the truth, columns the prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfusionMatrix {
    rows: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// A matrix of zeros.
    pub fn new(classes: usize) -> Self {
        Self {
            rows: vec![vec![0; classes]; classes],
        }
    }

    /// Counts one sample. Both classes must be below the matrix's size.
    pub fn add(&mut self, truth: usize, prediction: usize) {
        self.rows[truth][prediction] += 1;
    }

    /// The counts, row by row.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// For each class, the share of its samples that was recognised; `None` for a class without samples.
    pub fn recall(&self) -> Vec<Option<f64>> {
        let recall = |(class, row): (usize, &Vec<u64>)| {
            let samples: u64 = row.iter().sum();
            (samples > 0).then(|| row[class] as f64 / samples as f64)
        };
        self.rows.iter().enumerate().map(recall).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_batch_weighs_less() {
        let mut metrics = EpochMetrics::default();
        metrics.add(1.0, 3, 4);
        metrics.add(4.0, 0, 1);
        assert_eq!(metrics.mean_loss(), 8.0 / 5.0);
        assert_eq!(metrics.accuracy(), 3.0 / 5.0);
    }

    #[test]
    fn rows_are_the_truth() {
        let mut confusion = ConfusionMatrix::new(3);
        for (truth, prediction) in [(0, 0), (0, 2), (0, 0), (2, 1)] {
            confusion.add(truth, prediction);
        }
        assert_eq!(confusion.rows(), [[2, 0, 1], [0, 0, 0], [0, 1, 0]]);
        assert_eq!(confusion.recall(), [Some(2.0 / 3.0), None, Some(0.0)]);
    }
}
