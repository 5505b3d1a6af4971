//! Learning-rate schedules: pure functions of the epoch, so that a resumed run needs no scheduler state.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How the learning rates of all groups change over a stage.
///
/// A schedule is a factor on each group's own rate. It counts *training* epochs: an epoch that only
/// validates does not use one up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Schedule {
    /// The rates stay as they are.
    Constant,
    /// `gamma^⌊epoch / step⌋`, as `torch.optim.lr_scheduler.StepLR`.
    ///
    /// PyTorch multiplies the rate again and again; the power here may differ in the last bit of a double.
    StepLr {
        /// Epochs between two steps; at least 1.
        step: u64,
        /// The factor of each step.
        gamma: f64,
    },
    /// `(1 + cos(π·t/T)) / 2`, as `CosineAnnealingLR` with `eta_min` 0, after a linear warmup.
    ///
    /// The `warmup` first epochs have the factors 1/(w+1), …, w/(w+1). Then t counts from 0 and T is what is
    /// left of `epochs`; from there on the factor is 0 (where PyTorch's would rise again).
    Cosine {
        /// Training epochs in all, the warmup included; more than `warmup`.
        epochs: u64,
        /// How many of them warm up.
        warmup: u64,
    },
}

impl Schedule {
    /// The factor on the learning rates in training epoch `epoch`, counted from 0.
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

    /// Refuses settings that have no meaning: a step of 0, a gamma that is not a rate, only warmup.
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
                wrong("the step of StepLr", "0".into(), "at least 1 epoch")
            }
            Self::StepLr { gamma, .. } if !(gamma.is_finite() && gamma >= 0.0) => wrong(
                "the gamma of StepLr",
                gamma.to_string(),
                "a finite number, 0 or more",
            ),
            Self::Cosine { epochs, warmup } if warmup >= epochs => wrong(
                "the warmup of the cosine schedule",
                warmup.to_string(),
                "less than its epochs",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_lr_steps() {
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
    fn cosine_warms_up_and_falls() {
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
    fn meaningless_settings_are_refused() {
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
