//! Metrics of the order of scores.

use serde::Serialize;

use crate::scores::Scores;

/// Fraction of samples whose label is among the `k` classes with the largest logits
/// (`top_k_accuracy_score`). Of equal logits, that of the first class is the largest. NaN without
/// samples.
pub fn top_k_accuracy(scores: &Scores, k: usize) -> f64 {
    let hits = scores.rows().zip(scores.labels()).filter(|(row, label)| {
        let label = **label as usize;
        let is_before = |(class, logit): (usize, &f32)| {
            *logit > row[label] || (*logit == row[label] && class < label)
        };
        let rank = row.iter().enumerate().filter(|&entry| is_before(entry));
        rank.count() < k
    });
    hits.count() as f64 / scores.len() as f64
}

/// The metrics of one class against all others, ranking samples by the probability of the class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OneVsRest {
    /// Area under the ROC curve (`roc_auc_score`): the probability that a sample of the class ranks
    /// above one of another class, where a tie counts as one half. `None` if there are no samples of
    /// the class or no others.
    pub roc_auc: Option<f64>,
    /// Average precision (`average_precision_score`): Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the recall R and precision
    /// P at each distinct probability, in descending order. `None` without samples of the class, where
    /// scikit-learn returns 0.
    pub average_precision: Option<f64>,
}

/// Computes the metrics of each class against all others.
pub fn one_vs_rest(scores: &Scores) -> Vec<OneVsRest> {
    // Ranks probabilities, because distinct logarithms close to 0 can have equal probabilities.
    let classes = scores.probabilities_by_class().enumerate();
    classes
        .map(|(class, probabilities)| {
            let positives = scores.labels().iter().map(|&label| label as usize == class);
            one_class(probabilities.into_iter().zip(positives).collect())
        })
        .collect()
}

/// The mean of the values that are defined. `None` if none is.
pub fn macro_mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for value in values.into_iter().flatten() {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The metrics of samples with a probability each and whether they belong to the class.
fn one_class(mut samples: Vec<(f64, bool)>) -> OneVsRest {
    samples.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = samples.iter().filter(|sample| sample.1).count() as f64;
    let negatives = samples.len() as f64 - positives;
    let (mut true_positives, mut false_positives) = (0.0, 0.0);
    let (mut pairs, mut average_precision) = (0.0, 0.0);
    // Samples with equal probabilities are one step of the curves.
    for step in samples.chunk_by(|a, b| a.0 == b.0) {
        let hits = step.iter().filter(|sample| sample.1).count() as f64;
        let misses = step.len() as f64 - hits;
        pairs += misses * (true_positives + hits / 2.0);
        true_positives += hits;
        false_positives += misses;
        let precision = true_positives / (true_positives + false_positives);
        average_precision += hits / positives * precision;
    }
    OneVsRest {
        roc_auc: (positives > 0.0 && negatives > 0.0).then(|| pairs / (positives * negatives)),
        average_precision: (positives > 0.0).then_some(average_precision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_as_one_half() {
        // The values are scikit-learn's.
        let samples = [
            (0.9, true),
            (0.5, false),
            (0.5, true),
            (0.5, false),
            (0.1, false),
        ];
        let metrics = one_class(samples.to_vec());
        assert!((metrics.roc_auc.unwrap() - 5.0 / 6.0).abs() < 1e-12);
        assert!((metrics.average_precision.unwrap() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn metrics_of_absent_classes_are_undefined() {
        let scores = Scores::new(2, vec![1.0, 0.0, 0.0, 1.0], vec![0, 0]).unwrap();
        let metrics = one_vs_rest(&scores);
        assert_eq!(metrics[0].roc_auc, None);
        assert_eq!(metrics[0].average_precision, Some(1.0));
        assert_eq!(metrics[1].roc_auc, None);
        assert_eq!(metrics[1].average_precision, None);
        let mean = macro_mean(metrics.iter().map(|class| class.average_precision));
        assert_eq!(mean, Some(1.0));
        assert_eq!(macro_mean([None, None]), None);
    }

    #[test]
    fn the_first_class_of_equal_logits_ranks_first() {
        let scores = Scores::new(3, vec![1.0; 6], vec![0, 2]).unwrap();
        assert_eq!(top_k_accuracy(&scores, 1), 0.5);
        assert_eq!(top_k_accuracy(&scores, 2), 0.5);
        assert_eq!(top_k_accuracy(&scores, 3), 1.0);
    }
}
