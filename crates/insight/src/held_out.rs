//! Class probabilities of samples by models that were not trained on them.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::logistic_regression::{LogisticRegression, Samples};
use crate::scores::check_labels;

/// The penalties that [`held_out_probabilities`] tries in this order, from strong to weak.
const PENALTIES: [f64; 11] = [
    10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.000_3, 0.000_1,
];

/// The result of [`held_out_probabilities`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// Probabilities, shape (samples, classes), row-major.
    pub probabilities: Vec<f64>,
    /// The selected penalty λ.
    pub l2: f64,
    /// The mean of −ln(probability of the label).
    pub log_loss: f64,
}

/// Predicts the classes of each sample by multinomial logistic regression on the samples of the other
/// folds.
///
/// `features` has the shape (samples, features), row-major; `folds` has the fold of each sample. The
/// features are centered, and divided by the square root of their mean variance: one number for all
/// features, so that those that vary little count little. The penalty λ of mean log loss + λ/2 · ‖W‖² is
/// the one with the lowest held-out log loss: it decreases from 10 until the loss increases, at most
/// to 0.0001. The result is a function of the arguments, for any number of threads.
///
/// A class without samples in the other folds gets a probability near 0.
///
/// # Errors
///
/// Returns an error if the shapes do not fit, if a label is not a class, or if a feature is not finite.
pub fn held_out_probabilities(
    features: &[f32],
    labels: &[u32],
    classes: usize,
    folds: &[usize],
) -> Result<HeldOut> {
    let samples = labels.len();
    if features.is_empty()
        || samples == 0
        || !features.len().is_multiple_of(samples)
        || folds.len() != samples
    {
        let (values, folds) = (features.len(), folds.len());
        return Err(Error::FeatureShape {
            values,
            folds,
            samples,
        });
    }
    check_labels(labels, classes)?;
    let width = features.len() / samples;
    if let Some(index) = features.iter().position(|value| !value.is_finite()) {
        let (sample, feature) = (index / width, index % width);
        return Err(Error::NonFiniteFeature { sample, feature });
    }
    let matrix = standardize(features, width);

    let mut heads: Vec<Head> = (0..folds.iter().max().map_or(0, |last| last + 1))
        .map(|fold| {
            let (held_out, others): (Vec<_>, Vec<_>) =
                (0..samples).partition(|&sample| folds[sample] == fold);
            let model = LogisticRegression::zeros(classes, width);
            Head {
                held_out,
                others,
                model,
            }
        })
        .collect();
    let mut best: Option<HeldOut> = None;
    for l2 in PENALTIES {
        // The optimum for the previous penalty is a good start.
        heads.par_iter_mut().for_each(|head| {
            if !head.held_out.is_empty() && !head.others.is_empty() {
                let rows = &head.others;
                let (matrix, features) = (&matrix, width);
                head.model.fit(
                    Samples {
                        matrix,
                        features,
                        labels,
                        rows,
                    },
                    l2,
                );
            }
        });
        let mut probabilities = vec![0.0; samples * classes];
        for head in &heads {
            for &sample in &head.held_out {
                let row = head.model.probabilities(&matrix[sample * width..][..width]);
                probabilities[sample * classes..][..classes].copy_from_slice(&row);
            }
        }
        let of_label = |(row, &label): (&[f64], &u32)| row[label as usize];
        let of_labels = probabilities
            .chunks_exact(classes)
            .zip(labels)
            .map(of_label);
        // A class that is missing from the other folds must not make the loss infinite.
        let log_loss = of_labels
            .map(|p| -p.max(f64::MIN_POSITIVE).ln())
            .sum::<f64>();
        let log_loss = log_loss / samples as f64;
        if best.as_ref().is_some_and(|best| log_loss >= best.log_loss) {
            break;
        }
        best = Some(HeldOut {
            probabilities,
            l2,
            log_loss,
        });
    }
    Ok(best.expect("the first penalty is always taken"))
}

/// The head that judges the samples of one fold.
struct Head {
    held_out: Vec<usize>,
    others: Vec<usize>,
    model: LogisticRegression,
}

/// Centers each feature and divides all by the square root of their mean variance.
fn standardize(features: &[f32], width: usize) -> Vec<f64> {
    let samples = (features.len() / width) as f64;
    let mut means = vec![0.0; width];
    for row in features.chunks_exact(width) {
        for (mean, &value) in means.iter_mut().zip(row) {
            *mean += f64::from(value) / samples;
        }
    }
    let rows = features.chunks_exact(width);
    let mut centered: Vec<f64> = rows
        .flat_map(|row| row.iter().zip(&means).map(|(&x, mean)| f64::from(x) - mean))
        .collect();
    let squares: f64 = centered.iter().map(|value| value * value).sum();
    let variance = squares / centered.len() as f64;
    if variance > 0.0 {
        let scale = 1.0 / variance.sqrt();
        centered.iter_mut().for_each(|value| *value *= scale);
    }
    centered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shapes_labels_and_features_are_errors() {
        let run = |features: &[f32], labels: &[u32], folds: &[usize]| {
            held_out_probabilities(features, labels, 2, folds)
        };
        run(&[0.0, 1.0, 2.0, 3.0], &[0, 1], &[0, 1]).unwrap();
        for (features, labels, folds) in [(3, 2, 2), (0, 2, 2), (2, 0, 0), (4, 2, 1)] {
            let error = run(&vec![0.0; features], &vec![0; labels], &vec![0; folds]).unwrap_err();
            assert!(matches!(error, Error::FeatureShape { .. }), "{error}");
        }
        let error = run(&[0.0, 1.0], &[0, 2], &[0, 1]).unwrap_err();
        assert!(matches!(error, Error::Label { sample: 1, .. }), "{error}");
        let error = run(&[0.0, 1.0, f32::NAN, 0.0], &[0, 1], &[0, 1]).unwrap_err();
        let (sample, feature) = (1, 0);
        assert_eq!(error, Error::NonFiniteFeature { sample, feature });
    }

    #[test]
    fn constant_features_give_the_share_of_each_class_in_the_other_folds() {
        let labels = [0, 0, 0, 1, 0, 1, 1, 1];
        let folds = [0, 0, 0, 0, 1, 1, 1, 1];
        let held_out = held_out_probabilities(&[7.0; 16], &labels, 2, &folds).unwrap();
        for (row, fold) in held_out.probabilities.chunks_exact(2).zip(folds) {
            let expected = [0.25, 0.75][fold];
            assert!((row[0] - expected).abs() < 1e-6, "{fold}: {row:?}");
        }
    }

    #[test]
    fn a_label_does_not_change_the_probabilities_of_its_own_sample() {
        // Two clusters that no line separates.
        let features: Vec<f32> = (0..100)
            .flat_map(|i| [(i * 37) % 23 + (i % 2) * 14, (i * 53) % 31 + (i % 3) * 4])
            .map(|feature| feature as f32)
            .collect();
        let mut labels: Vec<u32> = (0..100)
            .map(|i| (i % 2 + u32::from(i % 7 == 0)) % 2)
            .collect();
        let folds: Vec<usize> = (0..100).map(|i| i % 5).collect();
        let fixed = |labels: &[u32]| held_out_probabilities(&features, labels, 2, &folds).unwrap();
        let before = fixed(&labels);
        labels[7] = 1 - labels[7];
        let after = fixed(&labels);
        assert_eq!(before.l2, after.l2, "the test needs the same penalty");
        let row = |result: &HeldOut, sample: usize| result.probabilities[sample * 2];
        assert_eq!(row(&before, 7), row(&after, 7));
        assert_ne!(row(&before, 8), row(&after, 8));
    }
}
