//! The state of a training stage, apart from the weights.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::group::Group;
use crate::metrics::{EpochMetrics, Phase};
use crate::params::{BestWeights, Params};
use crate::sgd::{Sgd, SgdConfig};

/// A training stage: its progress, its best weights and its optimizer.
///
/// A stage and the weights in [`Params`] are the complete training state. Batches, dropout masks
/// and learning rates are functions of the seeds and of this state. To continue a paused stage,
/// call [`fit`](crate::fit()) with it again.
#[derive(Debug)]
pub struct Stage {
    /// Current training epoch, counted from 1, or 0 in a new stage and in the baseline.
    pub(crate) epoch: u64,
    /// Phase of the current epoch.
    pub(crate) phase: Phase,
    /// Next training batch in the current epoch, counted from 0.
    pub(crate) batch: usize,
    /// Number of training steps completed in the stage. Part of the key of the dropout masks.
    pub(crate) step: u64,
    /// The last epoch, if the observer has finished the stage.
    last_epoch: Option<u64>,
    /// Training metrics of the current epoch so far.
    pub(crate) metrics: EpochMetrics,
    /// The epoch with the best validation accuracy so far. `None` before the first validation.
    pub(crate) best: Option<BestEpoch>,
    /// The optimizer, including its velocities.
    pub(crate) sgd: Sgd,
}

/// The best epoch of a stage so far, with its weights.
#[derive(Debug)]
#[non_exhaustive]
pub struct BestEpoch {
    /// Training epoch, counted from 1, or 0 for the baseline.
    pub epoch: u64,
    /// Validation accuracy of the epoch, as a fraction.
    pub accuracy: f64,
    /// Number of training steps completed in the stage by the end of this epoch.
    pub step: u64,
    /// Copies of the trainable parameters after the epoch.
    pub weights: BestWeights,
}

/// The serializable progress of a [`Stage`].
///
/// To save a stage, save this state, the [velocities](Sgd::snapshot_velocities), the best weights
/// and the weights in [`Params`]. Store floating-point numbers exactly, otherwise a resumed stage
/// does not produce the same bits. [`Stage::resume`] restores the stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// Current training epoch, counted from 1, or 0 in a new stage and in the baseline. The
    /// last epoch plus 1 after the end of the stage.
    pub epoch: u64,
    /// Phase of the current epoch.
    pub phase: Phase,
    /// Next training batch in the current epoch, counted from 0.
    pub batch: usize,
    /// Number of training steps completed in the stage.
    pub step: u64,
    /// The last epoch, if the observer has finished the stage with
    /// [`Flow::Finish`](crate::Flow::Finish).
    pub last_epoch: Option<u64>,
    /// Training metrics of the current epoch so far.
    pub metrics: EpochMetrics,
    /// The epoch with the best validation accuracy so far. `None` before the first validation.
    pub best: Option<BestState>,
}

/// The serializable part of [`BestEpoch`]: all but the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestState {
    /// Training epoch, counted from 1, or 0 for the baseline.
    pub epoch: u64,
    /// Validation accuracy of the epoch, as a fraction.
    pub accuracy: f64,
    /// Number of training steps completed in the stage by the end of this epoch.
    pub step: u64,
}

impl StageState {
    /// Whether the best weights are the current weights, so that they need not be saved separately.
    pub fn best_is_current(&self) -> bool {
        self.best.is_some_and(|best| best.step == self.step)
    }
}

impl Stage {
    /// Creates a stage that trains the currently trainable parameters.
    ///
    /// # Errors
    ///
    /// Returns an error if the optimizer cannot be created (see [`Sgd::new`]).
    pub fn new(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Result<Self, Error> {
        Ok(Self {
            epoch: 0,
            phase: Phase::Train,
            batch: 0,
            step: 0,
            last_epoch: None,
            metrics: EpochMetrics::default(),
            best: None,
            sgd: Sgd::new(params, config, groups)?,
        })
    }

    /// Restores a stage saved as `state`, `velocities` and `best`. To continue it, call
    /// [`fit`](crate::fit()).
    ///
    /// `params` must contain the saved weights, and the same parameters must be trainable. `best`
    /// is ignored if [`StageState::best_is_current`] returns true or [`StageState::best`] is
    /// `None`. `velocities` is ignored before the first step and without momentum.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Stage::new`], and [`Error::SavedState`] if a saved tensor is
    /// missing, belongs to no trainable parameter, or has the wrong shape or dtype. Returns an
    /// error if a tensor cannot be copied to its device.
    pub fn resume(
        params: &Params,
        config: SgdConfig,
        groups: Vec<Group>,
        state: StageState,
        velocities: BTreeMap<String, Tensor>,
        best: BTreeMap<String, Tensor>,
    ) -> Result<Self, Error> {
        let mut sgd = Sgd::new(params, config, groups)?;
        let parameters = params.trainable();
        // The first step creates the velocities of all parameters if there is momentum.
        if state.step > 0 && config.momentum != 0.0 {
            check_saved(&velocities, "the velocity", &parameters)?;
            sgd.set_velocities(velocities)?;
        }
        let best = match state.best {
            None => None,
            Some(best_state) => {
                let weights = if state.best_is_current() {
                    params.copy_trainable()?
                } else {
                    check_saved(&best, "the best value", &parameters)?;
                    params.best_weights_from(best)?
                };
                let BestState {
                    epoch,
                    accuracy,
                    step,
                } = best_state;
                Some(BestEpoch {
                    epoch,
                    accuracy,
                    step,
                    weights,
                })
            }
        };
        Ok(Self {
            epoch: state.epoch,
            phase: state.phase,
            batch: state.batch,
            step: state.step,
            last_epoch: state.last_epoch,
            metrics: state.metrics,
            best,
            sgd,
        })
    }

    /// Returns the serializable progress of the stage.
    pub fn state(&self) -> StageState {
        let best = self.best.as_ref().map(|best| BestState {
            epoch: best.epoch,
            accuracy: best.accuracy,
            step: best.step,
        });
        StageState {
            epoch: self.epoch,
            phase: self.phase,
            batch: self.batch,
            step: self.step,
            last_epoch: self.last_epoch,
            metrics: self.metrics,
            best,
        }
    }

    /// Current training epoch, counted from 1, or 0 in a new stage and in the baseline. The
    /// last epoch plus 1 after the end of the stage.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of training steps completed in the stage.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The epoch with the best validation accuracy so far. `None` before the first validation.
    pub fn best(&self) -> Option<&BestEpoch> {
        self.best.as_ref()
    }

    /// The optimizer, which contains the parameter groups and the velocities.
    pub fn sgd(&self) -> &Sgd {
        &self.sgd
    }

    /// Moves a new stage without a baseline to its first training epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoBestEpoch`] if an epoch is complete but there is no best one.
    pub(crate) fn start(&mut self, baseline: bool) -> Result<(), Error> {
        let first = u64::from(!baseline);
        self.epoch = self.epoch.max(first);
        let is_finished = self.last_epoch.is_some_and(|last| self.epoch > last);
        if (self.epoch > first || is_finished) && self.best.is_none() {
            return Err(Error::NoBestEpoch { epoch: self.epoch });
        }
        Ok(())
    }

    /// Whether all of the `epochs` are done, or all up to the one in which the observer finished the
    /// stage.
    pub(crate) fn is_complete(&self, epochs: u64) -> bool {
        self.epoch > self.last_epoch.unwrap_or(epochs).min(epochs)
    }

    /// Makes `epoch` the last one, unless an earlier one already is.
    pub(crate) fn finish_after(&mut self, epoch: u64) {
        self.last_epoch.get_or_insert(epoch);
    }

    /// Ends the training phase of the epoch and resets its batch and metrics.
    pub(crate) fn end_training(&mut self) {
        self.phase = Phase::Val;
        self.batch = 0;
        self.metrics = EpochMetrics::default();
    }

    /// Keeps a copy of the weights if `accuracy` is strictly greater than the best so far, or the
    /// first one. Returns whether it did.
    pub(crate) fn keep_if_best(&mut self, accuracy: f64, params: &Params) -> Result<bool, Error> {
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| accuracy > best.accuracy);
        if better {
            // Drops the old copy first, so that two copies are never in memory.
            self.best = None;
            self.best = Some(BestEpoch {
                epoch: self.epoch,
                accuracy,
                step: self.step,
                weights: params.copy_trainable()?,
            });
        }
        Ok(better)
    }

    /// Ends the epoch and starts the next one.
    pub(crate) fn end_epoch(&mut self) {
        self.epoch += 1;
        self.phase = Phase::Train;
    }
}

/// Checks that `saved` contains exactly one tensor for each of `parameters`, with the same shape
/// and dtype.
fn check_saved(
    saved: &BTreeMap<String, Tensor>,
    part: &'static str,
    parameters: &[(String, Var)],
) -> Result<(), Error> {
    let mismatch = |name: &String, problem: String| {
        Err(Error::SavedState {
            part,
            name: name.clone(),
            problem,
        })
    };
    for (name, var) in parameters {
        let Some(tensor) = saved.get(name) else {
            return mismatch(name, "is missing".to_owned());
        };
        let (got, expected) = ((tensor.dtype(), tensor.dims()), (var.dtype(), var.dims()));
        if got != expected {
            return mismatch(
                name,
                format!("has dtype and shape {got:?}, but the parameter has {expected:?}"),
            );
        }
    }
    let known = |name: &String| parameters.iter().any(|(other, _)| other == name);
    match saved.keys().find(|name| !known(name)) {
        Some(name) => mismatch(name, "does not belong to a trainable parameter".to_owned()),
        None => Ok(()),
    }
}
