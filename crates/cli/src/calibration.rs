//! The calibration of a run: a temperature fitted to the val images, and its effect.

use insight::Scores;
use insight::calibration::{MIN_TEMPERATURE, cross_validate, fit_temperature};
use serde::Serialize;

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
        /// `None` if there are fewer images than folds.
        effect: Option<Effect>,
    },
    /// The val images do not determine a temperature.
    NotFitted {
        /// Why not.
        reason: String,
    },
}

/// The effect of calibration in cross-validation, on images that the temperature was not fitted to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// Mean log loss without calibration.
    pub loss: f64,
    /// Mean log loss with calibration.
    pub calibrated_loss: f64,
    /// 95 % interval of the difference of the mean log losses, calibrated − not calibrated.
    pub difference_interval: [f64; 2],
    /// Whether there are enough val images to tell whether calibration helps.
    pub conclusive: bool,
}

impl Calibration {
    /// Fits a temperature to the scores of the val split.
    pub fn fit(scores: insight::Result<Scores>) -> Self {
        match scores.and_then(|scores| Ok((fit_temperature(&scores)?, scores))) {
            Ok((temperature, scores)) if temperature > MIN_TEMPERATURE => Self::Fitted {
                temperature,
                effect: cross_validate(&scores, FOLDS, SEED).ok().map(Into::into),
            },
            // Such a temperature would make every prediction certain, including the wrong ones.
            Ok(_) => Self::NotFitted {
                reason: "no or too few val images are classified incorrectly".to_string(),
            },
            Err(error) => Self::NotFitted {
                reason: error.to_string(),
            },
        }
    }
}

impl From<insight::calibration::Effect> for Effect {
    fn from(effect: insight::calibration::Effect) -> Self {
        Self {
            loss: effect.loss_before,
            calibrated_loss: effect.loss_after,
            difference_interval: effect.difference_interval,
            conclusive: effect.is_conclusive(),
        }
    }
}
