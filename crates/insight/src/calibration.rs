//! Temperature scaling: one number that makes probabilities as confident as they are right.
//!
//! The calibrated probabilities of a sample with logits `z` are `softmax(z / T)`. The temperature
//! `T > 0` minimizes the mean log loss over n samples that the model was not trained on:
//!
//! ```text
//! L(T) = −1/n · Σᵢ log softmax(zᵢ / T)[yᵢ],   yᵢ the label of sample i
//! ```
//!
//! `T > 1` makes an overconfident model less confident. The order of the classes, and so the
//! accuracy, stays the same. L is convex in `β = 1/T`. (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger:
//! On Calibration of Modern Neural Networks, ICML 2017.)

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::interval::Z;
use crate::probability::{CALIBRATION_BINS, expected_calibration_error};
use crate::scores::Scores;

/// The lowest temperature that [`fit_temperature`] returns.
pub const MIN_TEMPERATURE: f64 = 0.05;
/// The highest temperature that [`fit_temperature`] returns.
pub const MAX_TEMPERATURE: f64 = 20.0;
/// The smallest number of samples for which [`Effect::conclusive`] can be true. The distribution
/// of the mean of fewer log losses, which are skewed, is not close to normal.
pub const MIN_SAMPLES: usize = 30;

/// Fits the temperature to the samples, from [`MIN_TEMPERATURE`] to [`MAX_TEMPERATURE`].
///
/// Some samples have no minimum between these bounds:
///
/// - If every sample is classified correctly, the loss decreases toward `T = 0`, and the result is
///   [`MIN_TEMPERATURE`]. Such samples do not determine a temperature.
/// - If the labels are independent of the logits or contradict them, the result is
///   [`MAX_TEMPERATURE`].
/// - If the loss is the same at every temperature, because the logits of each sample are equal, the
///   result is 1.
///
/// One sample, or samples of one class, have one of these results or a minimum like any others.
///
/// # Errors
///
/// Returns an error if there are no samples.
pub fn fit_temperature(scores: &Scores) -> Result<f64> {
    if scores.is_empty() {
        return Err(Error::NoSamples);
    }
    Ok(fit(&samples(scores)))
}

/// The effect of temperature scaling on samples that the temperature was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Effect {
    /// Mean log loss at temperature 1.
    pub log_loss: f64,
    /// Mean log loss at the temperatures that were fitted without the fold of the sample.
    pub calibrated_log_loss: f64,
    /// 95 % interval of `calibrated_log_loss − log_loss`.
    pub difference_interval: [f64; 2],
    /// Expected calibration error at temperature 1, with 15 bins.
    pub ece: f64,
    /// Expected calibration error at the temperatures that were fitted without the fold of the sample.
    pub calibrated_ece: f64,
    /// Whether there are enough samples to tell whether the temperature helps: at least
    /// [`MIN_SAMPLES`], and the interval does not include 0.
    pub conclusive: bool,
}

/// Measures the effect of temperature scaling by cross-validation: for each fold, fits the temperature
/// to the samples of the other folds and applies it to this fold. `folds` has the fold of each sample.
///
/// The interval is that of the mean of n paired differences `dᵢ` with the standard
/// deviation s: `mean(d) ± 1.96·s/√n`. It is approximate, because the folds share the samples to
/// which their temperatures are fitted. The calibration errors are those of all n probabilities
/// together, because the error of few samples is biased upward.
///
/// # Errors
///
/// Returns an error if `folds` has another length than the samples, or if all are in one fold.
pub fn cross_validate(scores: &Scores, folds: &[usize]) -> Result<Effect> {
    let all = samples(scores);
    let distinct: BTreeSet<usize> = folds.iter().copied().collect();
    if folds.len() != all.len() || distinct.len() < 2 {
        let (folds, samples) = (folds.len(), all.len());
        return Err(Error::Folds { folds, samples });
    }
    let temperatures: BTreeMap<usize, f64> = distinct
        .into_iter()
        .map(|fold| {
            let others = all.iter().zip(folds).filter(|(_, other)| **other != fold);
            let others: Vec<Sample<'_>> = others.map(|(sample, _)| *sample).collect();
            (fold, fit(&others))
        })
        .collect();
    let mut logits = Vec::with_capacity(all.len() * scores.classes());
    for ((row, _), fold) in all.iter().zip(folds) {
        let scaled = |&logit: &f32| (f64::from(logit) / temperatures[fold]) as f32;
        // Only logits that are nearly as large as f32 allows can overflow.
        logits.extend(
            row.iter()
                .map(|logit| scaled(logit).clamp(f32::MIN, f32::MAX)),
        );
    }
    // A temperature that the caller has set has no effect.
    let plain = scores.clone().with_temperature(1.0);
    let calibrated = Scores::new(scores.classes(), logits, scores.labels().to_vec())?;
    let n = all.len() as f64;
    let log_loss = plain.losses().iter().sum::<f64>() / n;
    let pairs = calibrated.losses().into_iter().zip(plain.losses());
    let differences: Vec<f64> = pairs.map(|(after, before)| after - before).collect();
    let mean = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let half = Z * (squares / (n - 1.0) / n).sqrt();
    let [low, high] = [mean - half, mean + half];
    Ok(Effect {
        log_loss,
        calibrated_log_loss: log_loss + mean,
        difference_interval: [low, high],
        ece: expected_calibration_error(&plain, CALIBRATION_BINS),
        calibrated_ece: expected_calibration_error(&calibrated, CALIBRATION_BINS),
        conclusive: all.len() >= MIN_SAMPLES && (low > 0.0 || high < 0.0),
    })
}

/// The logits and the label of a sample.
type Sample<'a> = (&'a [f32], u32);

fn samples(scores: &Scores) -> Vec<Sample<'_>> {
    let labels = scores.labels().iter().copied();
    scores.rows().zip(labels).collect()
}

/// Minimizes the mean log loss in `β = 1/T`: Newton's method on its slope, which increases with β.
/// A step is replaced by bisection if it leaves the interval around the root, or is more than half
/// as long as the step before the last one.
fn fit(samples: &[Sample<'_>]) -> f64 {
    let (mut low, mut high) = (1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE);
    let decreases = derivatives(samples, low).0 < 0.0;
    let increases = derivatives(samples, high).0 > 0.0;
    match (decreases, increases) {
        (true, true) => {}
        (true, false) => return MIN_TEMPERATURE,
        (false, true) => return MAX_TEMPERATURE,
        (false, false) => return 1.0,
    }
    let mut beta: f64 = 1.0;
    let [mut before_last, mut last] = [high - low; 2];
    // Each second step at least halves, so this many steps are enough.
    for _ in 0..200 {
        let (slope, curvature) = derivatives(samples, beta);
        if slope > 0.0 {
            high = beta;
        } else {
            low = beta;
        }
        let newton = beta - slope / curvature;
        let shrinks = (newton - beta).abs() <= before_last / 2.0;
        let next = match shrinks && low < newton && newton < high {
            true => newton,
            false => f64::midpoint(low, high),
        };
        (before_last, last) = (last, (next - beta).abs());
        beta = next;
        if last <= 1e-12 * beta {
            break;
        }
    }
    1.0 / beta
}

/// The first and second derivative of the mean log loss with respect to `β = 1/T`. For a sample
/// with the label y, with `dⱼ = zⱼ − z_y` and `p = softmax(β·d)`:
///
/// ```text
/// loss = log Σⱼ exp(β·dⱼ),   loss′ = Σⱼ pⱼ·dⱼ,   loss″ = Σⱼ pⱼ·dⱼ² − (Σⱼ pⱼ·dⱼ)²
/// ```
fn derivatives(samples: &[Sample<'_>], beta: f64) -> (f64, f64) {
    let (mut slope, mut curvature) = (0.0, 0.0);
    for (logits, label) in samples {
        let target = f64::from(logits[*label as usize]);
        let margins = logits.iter().map(|&logit| f64::from(logit) - target);
        let max = margins.clone().fold(f64::NEG_INFINITY, f64::max);
        let [mut sum, mut first, mut second] = [0.0; 3];
        for margin in margins {
            let weight = (beta * (margin - max)).exp();
            sum += weight;
            first += weight * margin;
            second += weight * margin * margin;
        }
        let mean = first / sum;
        slope += mean;
        curvature += second / sum - mean * mean;
    }
    let n = samples.len() as f64;
    (slope / n, curvature / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probability::log_loss;
    use crate::scores::log_softmax;

    fn scores(classes: usize, rows: &[&[f32]], labels: &[u32]) -> Scores {
        Scores::new(classes, rows.concat(), labels.to_vec()).unwrap()
    }

    fn mean_loss(scores: &Scores, temperature: f64) -> f64 {
        log_loss(&scores.clone().with_temperature(temperature))
    }

    /// `n` samples of three classes. The logits are `scale` times those of a calibrated model: the
    /// labels are drawn from their softmax.
    fn drawn(n: usize, scale: f32) -> Scores {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut unit = || rng.next_u32() as f32 / 2f32.powi(32);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let row: Vec<f32> = (0..3).map(|_| 6.0 * unit()).collect();
            let probabilities = log_softmax(&row, 1.0).into_iter().map(f64::exp);
            let mut left = f64::from(unit());
            let label = probabilities.take(2).take_while(|p| {
                left -= p;
                left >= 0.0
            });
            labels.push(label.count() as u32);
            logits.extend(row.iter().map(|logit| scale * logit));
        }
        Scores::new(3, logits, labels).unwrap()
    }

    #[test]
    fn the_temperature_minimizes_the_loss() {
        for scale in [0.2, 1.0, 3.0, 15.0] {
            let scores = drawn(500, scale);
            let temperature = fit_temperature(&scores).unwrap();
            let at = |factor: f64| mean_loss(&scores, factor * temperature);
            assert!(at(1.0) < at(0.999) && at(1.0) < at(1.001), "{temperature}");
            let ratio = temperature / f64::from(scale);
            assert!((0.8..1.25).contains(&ratio), "{scale}: {temperature}");
        }
    }

    #[test]
    fn samples_without_a_minimum_give_a_bound_or_1() {
        let fit = |rows: &[&[f32]], labels: &[u32]| {
            fit_temperature(&scores(rows[0].len(), rows, labels)).unwrap()
        };
        // All correct, also one sample or one class, and with differences that overflow f32.
        assert_eq!(fit(&[&[2.0, 1.0], &[0.0, 3.0]], &[0, 1]), MIN_TEMPERATURE);
        assert_eq!(fit(&[&[2.0, 1.0]], &[0]), MIN_TEMPERATURE);
        assert_eq!(
            fit(&[&[3e38, -3e38], &[1.0, 0.9]], &[0, 0]),
            MIN_TEMPERATURE
        );
        // All wrong, and labels that are independent of the logits.
        assert_eq!(fit(&[&[2.0, 1.0]], &[1]), MAX_TEMPERATURE);
        let independent: [&[f32]; 2] = [&[2.0, 1.0], &[2.0, 1.0]];
        assert_eq!(fit(&independent, &[0, 1]), MAX_TEMPERATURE);
        // Equal logits.
        assert_eq!(fit(&[&[1.0, 1.0], &[5.0, 5.0]], &[0, 1]), 1.0);
    }

    #[test]
    fn samples_of_one_class_can_have_a_minimum() {
        // Two of three samples have the probability σ(β), the third σ(−β): the minimum is at
        // σ(β) = 2/3.
        let rows: [&[f32]; 3] = [&[1.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]];
        let temperature = fit_temperature(&scores(2, &rows, &[0; 3])).unwrap();
        assert!(
            (temperature - 1.0 / 2f64.ln()).abs() < 1e-9,
            "{temperature}"
        );
    }

    #[test]
    fn no_samples_are_an_error() {
        let empty = Scores::new(2, Vec::new(), Vec::new()).unwrap();
        assert_eq!(fit_temperature(&empty), Err(Error::NoSamples));
    }

    #[test]
    fn folds_that_are_not_one_for_each_sample_or_not_several_are_errors() {
        let scores = drawn(3, 1.0);
        assert!(cross_validate(&scores, &[0, usize::MAX, 0]).is_ok());
        for folds in [&[0, 1][..], &[0, 1, 2, 3], &[4; 3], &[]] {
            let error = cross_validate(&scores, folds).unwrap_err();
            let (folds, samples) = (folds.len(), 3);
            assert_eq!(error, Error::Folds { folds, samples });
        }
    }

    #[test]
    fn cross_validation_tells_an_overconfident_model_from_a_calibrated_one() {
        let folds: Vec<usize> = (0..500).map(|sample| sample % 5).collect();
        let effect = cross_validate(&drawn(500, 4.0), &folds).unwrap();
        assert!(
            effect.conclusive && effect.difference_interval[1] < 0.0,
            "{effect:?}"
        );
        assert!(effect.calibrated_log_loss < effect.log_loss, "{effect:?}");
        assert!(effect.calibrated_ece < effect.ece / 2.0, "{effect:?}");
        let calibrated = cross_validate(&drawn(500, 1.0), &folds).unwrap();
        assert!(!calibrated.conclusive, "{calibrated:?}");
        // The same samples, but too few.
        let few = MIN_SAMPLES - 1;
        let few = cross_validate(&drawn(few, 4.0), &folds[..few]).unwrap();
        assert!(!few.conclusive, "{few:?}");
    }

    #[test]
    fn cross_validation_applies_a_temperature_fitted_to_other_samples() {
        // The temperature of each sample is fitted to the other one.
        let pair = scores(2, &[&[2.0, 1.0], &[1.0, 2.0]], &[0, 0]);
        let effect = cross_validate(&pair, &[0, 1]).unwrap();
        let loss = |margin: f64| (-margin).exp().ln_1p();
        let after = (loss(1.0 / MAX_TEMPERATURE) + loss(-1.0 / MIN_TEMPERATURE)) / 2.0;
        assert!(
            (effect.calibrated_log_loss - after).abs() < 1e-6,
            "{effect:?}"
        );
        let before = (loss(1.0) + loss(-1.0)) / 2.0;
        assert!((effect.log_loss - before).abs() < 1e-12);
        // A temperature that was set before has no effect.
        assert_eq!(
            cross_validate(&pair.with_temperature(3.0), &[0, 1]),
            Ok(effect)
        );
    }
}
