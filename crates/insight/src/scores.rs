//! Logits and labels, and the probabilities that follow from them.

use crate::error::{Error, Result};

/// The logits and labels of a set of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    classes: usize,
    /// Shape (samples, classes), row-major.
    logits: Vec<f32>,
    labels: Vec<u32>,
    temperature: f64,
}

impl Scores {
    /// Takes the logits, shape (samples, classes) in row-major order, and the class index of each
    /// sample.
    ///
    /// # Errors
    ///
    /// Returns an error if there are fewer than two classes, if the shapes do not fit, if a label is
    /// not a class, or if a logit is not finite.
    pub fn new(classes: usize, logits: Vec<f32>, labels: Vec<u32>) -> Result<Self> {
        let samples = labels.len();
        if classes < 2 || samples.checked_mul(classes) != Some(logits.len()) {
            let logits = logits.len();
            return Err(Error::Shape {
                logits,
                samples,
                classes,
            });
        }
        check_labels(&labels, classes)?;
        if let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
            let (sample, class) = (index / classes, index % classes);
            return Err(Error::NonFinite { sample, class });
        }
        Ok(Self {
            classes,
            logits,
            labels,
            temperature: 1.0,
        })
    }

    /// Divides all logits by `temperature`, in place of a temperature set before. This changes
    /// probabilities and losses, but no predictions.
    ///
    /// # Panics
    ///
    /// Panics if `temperature` is not positive and finite.
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        assert!(
            temperature > 0.0 && temperature.is_finite(),
            "the temperature is {temperature}"
        );
        self.temperature = temperature;
        self
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class index of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The logits of each sample, not divided by the temperature.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.logits.chunks_exact(self.classes)
    }

    /// The index of the largest logit of each sample. The first class wins a tie.
    pub fn predictions(&self) -> impl ExactSizeIterator<Item = u32> {
        self.rows().map(|row| argmax(row) as u32)
    }

    /// The natural logarithms of the probabilities of each sample: the [`log_softmax`] of its logits.
    pub fn log_probabilities(&self) -> impl ExactSizeIterator<Item = Vec<f64>> {
        self.rows().map(|row| log_softmax(row, self.temperature))
    }

    /// For each class, the probabilities of all samples. Holds the values of one class at a time.
    pub(crate) fn probabilities_by_class(&self) -> impl Iterator<Item = Vec<f64>> {
        let temperature = self.temperature;
        let log_sums = self.rows().map(move |row| log_sum_exp(row, temperature));
        let log_sums: Vec<f64> = log_sums.collect();
        (0..self.classes).map(move |class| {
            let rows = self.rows().zip(&log_sums);
            let log = rows.map(|(row, sum)| f64::from(row[class]) / temperature - sum);
            log.map(f64::exp).collect()
        })
    }

    /// The cross-entropy loss of each sample in nats: −ln p(label).
    pub fn losses(&self) -> Vec<f64> {
        self.log_probabilities()
            .zip(&self.labels)
            .map(|(row, &label)| -row[label as usize])
            .collect()
    }

    /// The indices of the `count` samples with the largest losses, largest first. Samples with equal
    /// losses stay in order.
    pub fn top_losses(&self, count: usize) -> Vec<usize> {
        let losses = self.losses();
        let mut samples: Vec<usize> = (0..losses.len()).collect();
        samples.sort_by(|&a, &b| losses[b].total_cmp(&losses[a]));
        samples.truncate(count);
        samples
    }

    /// Number of samples for each pair of classes. Rows are the true classes, columns the predicted
    /// ones.
    pub fn confusion_matrix(&self) -> Vec<Vec<u64>> {
        let mut matrix = vec![vec![0; self.classes]; self.classes];
        for (&label, prediction) in self.labels.iter().zip(self.predictions()) {
            matrix[label as usize][prediction as usize] += 1;
        }
        matrix
    }
}

/// Returns an error if a label is not a class.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<()> {
    let is_unknown = |&label: &u32| label as usize >= classes;
    match labels.iter().position(is_unknown) {
        Some(sample) => Err(Error::Label {
            sample,
            label: labels[sample],
            classes,
        }),
        None => Ok(()),
    }
}

/// The index of the largest value. The first wins a tie.
pub(crate) fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    let mut best = 0;
    for (class, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = class;
        }
    }
    best
}

/// The natural logarithms of the softmax of `logits / temperature`, in float64.
pub fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let log_sum = log_sum_exp(logits, temperature);
    let scaled = logits.iter().map(|&logit| f64::from(logit) / temperature);
    scaled.map(|value| value - log_sum).collect()
}

/// The natural logarithm of the sum of exp(logit / temperature).
fn log_sum_exp(logits: &[f32], temperature: f64) -> f64 {
    let scaled = logits.iter().map(|&logit| f64::from(logit) / temperature);
    let max = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.map(|value| (value - max).exp()).sum();
    max + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shapes_labels_and_logits_are_errors() {
        let shape = |classes, logits: usize, labels: usize| {
            Scores::new(classes, vec![0.0; logits], vec![0; labels])
        };
        assert!(shape(2, 6, 3).is_ok());
        assert!(shape(2, 0, 0).is_ok());
        for (classes, logits, labels) in [(2, 5, 3), (1, 3, 3), (0, 0, 0), (2, 6, 4)] {
            assert!(shape(classes, logits, labels).is_err());
        }
        let label = Scores::new(2, vec![0.0; 4], vec![1, 2]);
        let (sample, label_error) = (1, label.unwrap_err());
        assert_eq!(
            label_error,
            Error::Label {
                sample,
                label: 2,
                classes: 2
            }
        );
        let logit = Scores::new(2, vec![0.0, 1.0, f32::NAN, 0.0], vec![0, 0]);
        let (sample, class) = (1, 0);
        assert_eq!(logit.unwrap_err(), Error::NonFinite { sample, class });
    }

    #[test]
    fn the_first_class_wins_a_tie() {
        let scores = Scores::new(3, vec![0.0, 2.0, 2.0, -1.0, -1.0, -2.0], vec![0, 0]).unwrap();
        assert_eq!(scores.predictions().collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn equal_losses_stay_in_order_and_the_temperature_is_replaced() {
        let logits = vec![0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 3.0];
        let scores = Scores::new(2, logits, vec![0, 1, 1, 1]).unwrap();
        assert_eq!(scores.top_losses(3), [1, 0, 2]);
        assert_eq!(scores.top_losses(9), [1, 0, 2, 3]);
        assert_eq!(scores.confusion_matrix(), [[1, 0], [2, 1]]);
        let softer = scores.clone().with_temperature(3.0);
        let expected = (1.0 + f64::exp(-1.0)).ln();
        assert!((softer.losses()[3] - expected).abs() < 1e-12);
        assert_eq!(softer.with_temperature(1.0), scores);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let rows = log_softmax(&[3e38, 0.0], 1e-3);
        assert_eq!(rows[0], 0.0);
        assert!(rows[1].is_finite() && rows[1] < -1e40);
        let sum: f64 = log_softmax(&[1.0, 2.0, 3.0], 2.0)
            .iter()
            .map(|v| v.exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
