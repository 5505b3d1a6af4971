//! The state of a stage: everything that the loop changes beside the weights themselves.

use crate::error::Error;
use crate::event::Phase;
use crate::metrics::Sums;
use crate::params::{Params, Snapshot};
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
    pub(crate) sums: Sums,
    /// The best epoch so far.
    pub(crate) best: Option<Best>,
    /// The optimizer with its momentum.
    pub(crate) sgd: Sgd,
}

/// The best epoch of a stage so far.
#[derive(Debug)]
pub struct Best {
    /// Which, counted from 0.
    pub epoch: u64,
    /// Its val accuracy.
    pub accuracy: f64,
    /// Copies of what trained, as it was then.
    pub weights: Snapshot,
}

impl Stage {
    /// A stage at its beginning, with an optimizer (see [`Sgd::new`]) for what is trainable now.
    pub fn new(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Result<Self, Error> {
        Ok(Self {
            epoch: 0,
            phase: Phase::Train,
            batch: 0,
            step: 0,
            sums: Sums::default(),
            best: None,
            sgd: Sgd::new(params, config, groups)?,
        })
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
    pub fn best(&self) -> Option<&Best> {
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
        self.sums = Sums::default();
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
            self.best = Some(Best {
                epoch: self.epoch,
                accuracy,
                weights: params.snapshot()?,
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
