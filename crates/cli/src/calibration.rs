//! The calibration of a run: a temperature fitted to the val images, and its effect.

use insight::Scores;
use insight::calibration::{Effect, MIN_TEMPERATURE, cross_validate, fit_temperature};
use serde::Serialize;

use crate::folds::stratified;

/// Number of folds of the cross-validation.
const FOLDS: usize = 5;
/// Seed of the folds.
const SEED: u64 = 0;

/// The result of calibrating a model on the val images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Calibration {
    /// The temperature is stored with the model.
    Fitted {
        /// The temperature fitted to all val images.
        temperature: f64,
        /// The effect on images to which the temperature was not fitted. `None` if there are fewer
        /// images than folds.
        effect: Option<Effect>,
    },
    /// The val images do not determine a temperature.
    NotFitted {
        /// Why not.
        reason: String,
    },
}

impl Calibration {
    /// Fits a temperature to the scores of the val split.
    pub fn fit(scores: insight::Result<Scores>) -> Self {
        match scores.and_then(|scores| Ok((fit_temperature(&scores)?, scores))) {
            Ok((temperature, scores)) if temperature > MIN_TEMPERATURE => Self::Fitted {
                temperature,
                effect: effect(&scores),
            },
            // Such a temperature would make every prediction certain, including the wrong ones.
            Ok(_) => Self::NotFitted {
                reason: format!(
                    "no or too few val images are classified incorrectly (the fit reaches the \
                     smallest temperature, {MIN_TEMPERATURE})"
                ),
            },
            Err(error) => Self::NotFitted {
                reason: error.to_string(),
            },
        }
    }
}

/// The effect by cross-validation, each image being a group of its own. `None` if there are fewer images
/// than folds.
fn effect(scores: &Scores) -> Option<Effect> {
    let images: Vec<usize> = (0..scores.len()).collect();
    let folds = stratified(scores.labels(), &images, FOLDS, SEED);
    (images.len() >= FOLDS)
        .then(|| cross_validate(scores, &folds).ok())
        .flatten()
}
