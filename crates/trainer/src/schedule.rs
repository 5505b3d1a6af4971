//! Learning rate schedules: pure functions of the epoch, so that there is no state to resume.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A learning rate schedule.
///
/// A schedule multiplies the learning rate of each group by a factor that depends on the epoch.
/// Only training epochs count. A baseline epoch, which only validates, does not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// Constant learning rates.
    Constant,
    /// `gamma^⌊epoch / step⌋`, as in `torch.optim.lr_scheduler.StepLR`.
    ///
    /// PyTorch multiplies the learning rate by `gamma` at each step instead, so results may differ by
    /// a few ulp of f64.
    StepLr {
        /// Number of epochs between steps, at least 1.
        step: u64,
        /// Factor applied at each step, finite and at least 0.
        gamma: f64,
    },
    /// `(1 + cos(π·t/T)) / 2`, as in `CosineAnnealingLR` with `eta_min` 0, after a linear warmup.
    ///
    /// The first w = `warmup` epochs have the factors 1/(w+1), …, w/(w+1). After them, t counts
    /// from 0 to T = `epochs` − w. In later epochs the factor stays 0, whereas PyTorch's rises
    /// again.
    Cosine {
        /// Number of training epochs including the warmup. Must be greater than `warmup`.
        epochs: u64,
        /// Number of warmup epochs, in which the factor rises linearly.
        warmup: u64,
    },
}

impl Schedule {
    /// Returns the learning rate factor in training epoch `epoch`, counted from 0.
    pub fn factor(&self, epoch: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::StepLr { step, gamma } => gamma.powf((epoch / step.max(1)) as f64),
            Self::Cosine { warmup, .. } if epoch < warmup => {
                (epoch + 1) as f64 / (warmup + 1) as f64
            }
            Self::Cosine { epochs, .. } if epoch >= epochs => 0.0,
            Self::Cosine { epochs, warmup } => {
                let progress = (epoch - warmup) as f64 / (epochs - warmup) as f64;
                (1.0 + (PI * progress).cos()) / 2.0
            }
        }
    }

    /// Checks that the settings are in range.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Setting`] if `step` is 0, if `gamma` is negative or not finite, or if
    /// `warmup` is not less than `epochs`.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |setting: &str, value: String, expected| {
            Err(Error::Setting {
                setting: setting.into(),
                value,
                expected,
            })
        };
        match *self {
            Self::StepLr { step: 0, .. } => {
                wrong("the step of the schedule", "0".into(), "at least 1 epoch")
            }
            Self::StepLr { gamma, .. } if !(gamma.is_finite() && gamma >= 0.0) => wrong(
                "the gamma of the schedule",
                gamma.to_string(),
                "finite and at least 0",
            ),
            Self::Cosine { epochs, warmup } if warmup >= epochs => wrong(
                "the warmup of the schedule",
                warmup.to_string(),
                "less than its number of epochs",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_lr_multiplies_by_gamma_after_each_step() {
        let schedule = Schedule::StepLr {
            step: 3,
            gamma: 0.1,
        };
        let factors: Vec<f64> = (0..7).map(|epoch| schedule.factor(epoch)).collect();
        let expected = [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01];
        assert!(
            factors
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-15),
            "{factors:?}"
        );
    }

    #[test]
    fn cosine_warms_up_and_decays() {
        let schedule = Schedule::Cosine {
            epochs: 6,
            warmup: 2,
        };
        let expected = [
            1.0 / 3.0,
            2.0 / 3.0,
            1.0,
            (1.0 + 0.5f64.sqrt()) / 2.0,
            0.5,
            (1.0 - 0.5f64.sqrt()) / 2.0,
            0.0,
            0.0,
        ];
        for (epoch, expected) in (0..).zip(expected) {
            assert!(
                (schedule.factor(epoch) - expected).abs() < 1e-15,
                "epoch {epoch}"
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        for schedule in [
            Schedule::StepLr {
                step: 0,
                gamma: 0.1,
            },
            Schedule::StepLr {
                step: 1,
                gamma: f64::NAN,
            },
            Schedule::StepLr {
                step: 1,
                gamma: -1.0,
            },
            Schedule::Cosine {
                epochs: 3,
                warmup: 3,
            },
        ] {
            assert!(
                matches!(schedule.check(), Err(Error::Setting { .. })),
                "{schedule:?}"
            );
        }
        assert!(
            Schedule::StepLr {
                step: 7,
                gamma: 0.1
            }
            .check()
            .is_ok()
        );
    }
}
