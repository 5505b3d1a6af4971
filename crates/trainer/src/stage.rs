//! The state of a stage: everything that the loop changes beside the weights themselves, and how it is kept.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::Phase;
use crate::metrics::EpochMetrics;
use crate::params::{BestWeights, Params};
use crate::sgd::{Group, Sgd, SgdConfig};

/// Where a stage is, between any two batches.
///
/// Together with the weights this is all: data, dropout and learning rates are functions of the seed and of
/// what stands here. A stage that was stopped goes on when [`fit`](crate::fit()) is called with it again.
#[derive(Debug)]
pub struct Stage {
    /// The epoch, counted from 0; how many are done.
    pub(crate) epoch: u64,
    /// The phase of the epoch that is to go on.
    pub(crate) phase: Phase,
    /// The next training batch of the epoch.
    pub(crate) batch: usize,
    /// Training steps done in the stage; the key of dropout.
    pub(crate) step: u64,
    /// Training loss and accuracy of the epoch so far.
    pub(crate) metrics: EpochMetrics,
    /// The best epoch so far.
    pub(crate) best: Option<BestEpoch>,
    /// The optimizer with its momentum.
    pub(crate) sgd: Sgd,
}

/// The best epoch of a stage so far.
#[derive(Debug)]
pub struct BestEpoch {
    /// Which, counted from 0.
    pub epoch: u64,
    /// Its val accuracy.
    pub accuracy: f64,
    /// Training steps done in the stage up to then.
    pub step: u64,
    /// Copies of what trained, as it was then.
    pub weights: BestWeights,
}

/// A [`Stage`]'s numbers, to be written down and taken up again.
///
/// All of a stage's state is this, its [velocities](Sgd::snapshot_velocities), the best weights, and the weights in its
/// [`Params`]. Floating-point numbers must be kept exactly, or what follows is not the same to the last bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// The epoch, counted from 0; how many are done.
    pub epoch: u64,
    /// The phase of the epoch that is to go on.
    pub phase: Phase,
    /// The next training batch of the epoch.
    pub batch: usize,
    /// Training steps done in the stage.
    pub step: u64,
    /// Training loss and accuracy of the epoch so far.
    pub metrics: EpochMetrics,
    /// The best epoch so far.
    pub best: Option<BestState>,
}

/// The best epoch so far, without its weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestState {
    /// Which, counted from 0.
    pub epoch: u64,
    /// Its val accuracy.
    pub accuracy: f64,
    /// Training steps done in the stage up to then.
    pub step: u64,
}

impl StageState {
    /// Whether the best weights are those that the model has at this moment, so that they need not be kept twice.
    pub fn best_is_current(&self) -> bool {
        self.best.is_some_and(|best| best.step == self.step)
    }
}

impl Stage {
    /// A stage at its beginning, with an optimizer (see [`Sgd::new`]) for what is trainable now.
    pub fn new(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Result<Self, Error> {
        Ok(Self {
            epoch: 0,
            phase: Phase::Train,
            batch: 0,
            step: 0,
            metrics: EpochMetrics::default(),
            best: None,
            sgd: Sgd::new(params, config, groups)?,
        })
    }

    /// A stage as it was when `position`, `velocities` and `best` were taken; [`fit`](crate::fit()) goes on from there.
    ///
    /// `params` must hold the weights of that moment, with the same parameters trainable. `best` is not looked at
    /// where [`StageState::best_is_current`] says that it is the same.
    ///
    /// # Errors
    ///
    /// Those of [`Stage::new`], and [`Error::SavedState`] for tensors that are missing, too many or of another shape.
    pub fn resume(
        params: &Params,
        config: SgdConfig,
        groups: Vec<Group>,
        state: StageState,
        velocities: BTreeMap<String, Tensor>,
        best: BTreeMap<String, Tensor>,
    ) -> Result<Self, Error> {
        let mut sgd = Sgd::new(params, config, groups)?;
        // The first step makes the velocities of all parameters, and only momentum makes any.
        if state.step > 0 && config.momentum != 0.0 {
            sgd.set_velocities(velocities)?;
        }
        let best = match state.best {
            None if state.epoch > 0 => {
                return Err(Error::SavedState {
                    what: "the best epoch",
                    name: "the stage".to_string(),
                    problem: format!("is missing after {} epochs", state.epoch),
                });
            }
            None => None,
            Some(found) => {
                let weights = if state.best_is_current() {
                    params.copy_trainable()?
                } else {
                    params.best_weights_from(best)?
                };
                let BestState {
                    epoch,
                    accuracy,
                    step,
                } = found;
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
            metrics: state.metrics,
            best,
            sgd,
        })
    }

    /// Where it is.
    pub fn position(&self) -> StageState {
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
            metrics: self.metrics,
            best,
        }
    }

    /// How many epochs are done.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many training steps are done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The best epoch so far.
    pub fn best(&self) -> Option<&BestEpoch> {
        self.best.as_ref()
    }

    /// The optimizer.
    pub fn sgd(&self) -> &Sgd {
        &self.sgd
    }

    /// Ends the training phase of the epoch.
    pub(crate) fn end_training(&mut self) {
        self.phase = Phase::Val;
        self.batch = 0;
        self.metrics = EpochMetrics::default();
    }

    /// Keeps the weights if `accuracy` is strictly greater than ever before.
    pub(crate) fn keep_if_best(&mut self, accuracy: f64, params: &Params) -> Result<bool, Error> {
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| accuracy > best.accuracy);
        if better {
            // The old copies go first, so that never two of them are in memory.
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

    /// Ends the epoch.
    pub(crate) fn end_epoch(&mut self) {
        self.epoch += 1;
        self.phase = Phase::Train;
    }
}
