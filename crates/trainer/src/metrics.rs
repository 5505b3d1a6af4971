//! Loss and accuracy over an epoch, and the confusion matrix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A phase of an epoch, and the split that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Training: weights are updated and dropout is active.
    Train,
    /// Validation: weights do not change and dropout is inactive.
    Val,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
        })
    }
}

/// Sums from which the loss and accuracy of one split in an epoch are computed.
///
/// The means are over samples, so a smaller last batch has less weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Sum of the sample losses, accumulated as the mean loss of each batch times its size.
    pub loss_sum: f64,
    /// Number of correct predictions.
    pub correct: u64,
    /// Number of samples added.
    pub samples: u64,
}

impl EpochMetrics {
    /// Adds a batch of `samples` samples with mean loss `mean_loss`, of which `correct` were
    /// predicted correctly.
    pub fn add(&mut self, mean_loss: f64, correct: usize, samples: usize) {
        self.loss_sum += mean_loss * samples as f64;
        self.correct += correct as u64;
        self.samples += samples as u64;
    }

    /// Mean loss over the samples. NaN if there are none.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.samples as f64
    }

    /// Fraction of correct predictions. NaN if there are no samples.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }
}

/// Progress of a phase after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// Batch within the phase, counted from 0.
    pub batch: usize,
    /// Mean loss over the samples of the batch.
    pub batch_loss: f64,
    /// Mean loss over the samples processed in the phase so far.
    pub loss: f64,
    /// Fraction of correct predictions in the phase so far.
    pub accuracy: f64,
    /// Number of samples processed in the phase so far.
    pub samples: u64,
    /// Total number of samples in the phase.
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

/// A confusion matrix of sample counts, with a row per true class and a column per predicted class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfusionMatrix {
    rows: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Creates a matrix of zeros for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self {
            rows: vec![vec![0; classes]; classes],
        }
    }

    /// Adds one sample with true class `truth` and predicted class `prediction`.
    ///
    /// # Panics
    ///
    /// Panics if a class index is not less than the number of classes.
    pub fn add(&mut self, truth: usize, prediction: usize) {
        self.rows[truth][prediction] += 1;
    }

    /// Sample counts. Each row is a true class, and each column a predicted class.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// Recall of each class: the fraction of its samples predicted correctly. `None` for a class
    /// without samples.
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
    fn means_are_over_samples_not_batches() {
        let mut metrics = EpochMetrics::default();
        metrics.add(1.0, 3, 4);
        metrics.add(4.0, 0, 1);
        assert_eq!(metrics.mean_loss(), 8.0 / 5.0);
        assert_eq!(metrics.accuracy(), 3.0 / 5.0);
    }

    #[test]
    fn rows_are_true_classes() {
        let mut confusion = ConfusionMatrix::new(3);
        for (truth, prediction) in [(0, 0), (0, 2), (0, 0), (2, 1)] {
            confusion.add(truth, prediction);
        }
        assert_eq!(confusion.rows(), [[2, 0, 1], [0, 0, 0], [0, 1, 0]]);
        assert_eq!(confusion.recall(), [Some(2.0 / 3.0), None, Some(0.0)]);
    }
}
