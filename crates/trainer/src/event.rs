//! What a stage tells its observer. This crate prints nothing: whoever watches draws.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::Progress;
use crate::params::Counts;
use crate::stage::Stage;

/// What the observer wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop at this point, with a state from which the stage can go on.
    Stop,
}

/// A training or a validation pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Weights are updated, dropout is on.
    Train,
    /// Nothing changes, dropout is off.
    Val,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
        })
    }
}

/// A parameter group and its learning rate at some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLr {
    /// The group's layer pattern.
    pub pattern: String,
    /// How many numbers it trains.
    pub parameters: usize,
    /// The learning rate in force.
    pub lr: f64,
}

/// Everything that is told. Epochs and batches are counted from 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage begins, or goes on after it was stopped.
    StageStart {
        /// How many epochs it has in all.
        epochs: u64,
        /// The epoch it starts with; more than 0 when it goes on.
        epoch: u64,
        /// How much trains.
        counts: Counts,
        /// The parameter groups with their rates before any schedule.
        groups: Vec<GroupLr>,
        /// How many leading layers are frozen.
        first_trainable_layer: usize,
        /// Samples in the train split.
        train_samples: usize,
        /// Samples in the val split.
        val_samples: usize,
    },
    /// An epoch begins.
    EpochStart {
        /// Which.
        epoch: u64,
        /// How many the stage has.
        epochs: u64,
        /// Whether it only validates.
        baseline: bool,
        /// The learning rates in force.
        learning_rates: Vec<GroupLr>,
    },
    /// A batch is done: after the update in training.
    BatchDone {
        /// Training or validation.
        phase: Phase,
        /// The epoch.
        epoch: u64,
        /// The batch and the pass so far.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A pass over a split is done.
    PhaseEnd {
        /// Training or validation.
        phase: Phase,
        /// The epoch.
        epoch: u64,
        /// Mean loss over the samples.
        loss: f64,
        /// Correct predictions over all.
        accuracy: f64,
        /// How long it took; since it went on, for a pass that was stopped.
        seconds: f64,
        /// Samples per second in that time.
        samples_per_second: f64,
    },
    /// The val accuracy is strictly greater than ever before in this stage; these weights are kept.
    NewBest {
        /// The epoch.
        epoch: u64,
        /// Its val accuracy.
        accuracy: f64,
    },
    /// The stage is over and the best weights are restored.
    StageEnd {
        /// The epoch whose weights these are.
        best_epoch: u64,
        /// Their val accuracy.
        best_accuracy: f64,
        /// How long the stage took; since it went on, if it was stopped.
        seconds: f64,
    },
}

/// The observer of a stage. It sees the stage's state as it is at the event, and may keep it: wherever it asks to
/// stop, and anywhere else, the stage can go on from that state ([`Stage::resume`]) to the same result.
pub type Observer<'a> = dyn FnMut(&Event, &Stage) -> Flow + 'a;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::EpochMetrics;

    #[test]
    fn an_event_is_one_flat_object() {
        let mut metrics = EpochMetrics::default();
        metrics.add(0.5, 3, 4);
        let event = Event::BatchDone {
            phase: Phase::Val,
            epoch: 2,
            progress: Progress::new(0, 0.5, &metrics, 10),
        };
        let expected = serde_json::json!({
            "event": "batch_done", "phase": "val", "epoch": 2, "batch": 0, "batch_loss": 0.5, "loss": 0.5,
            "accuracy": 0.75, "samples": 4, "samples_total": 10,
        });
        assert_eq!(
            serde_json::to_value(&event).expect("an event has only plain fields"),
            expected
        );
    }
}
