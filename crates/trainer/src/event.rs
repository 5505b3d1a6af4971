//! The events of a stage, from which an observer can display progress. The crate prints nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::Progress;
use crate::params::Counts;
use crate::stage::Stage;

/// Returned by an observer to continue or stop the stage after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue the stage.
    Continue,
    /// Stop at this event. The stage can be resumed later from its state.
    Stop,
}

/// A phase of an epoch, and the split that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Training: weights are updated and dropout is active.
    Train,
    /// Validation: weights do not change and dropout is inactive.
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

/// A parameter group with its size and its learning rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLr {
    /// Layer pattern of the group.
    pub pattern: String,
    /// Number of parameters (scalar values) in the group.
    pub parameters: usize,
    /// Learning rate. Includes the schedule's factor, except in [`Event::StageStart`].
    pub lr: f64,
}

/// An event in a stage, passed to its [`Observer`]. Epochs and batches are counted from 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage starts or resumes.
    StageStart {
        /// Total number of epochs in the stage, including the baseline.
        epochs: u64,
        /// First epoch to run. Greater than 0 if the stage resumes after a completed epoch.
        epoch: u64,
        /// Numbers of trainable and frozen parameters.
        counts: Counts,
        /// Parameter groups with their learning rates before the schedule is applied.
        groups: Vec<GroupLr>,
        /// Index of the first trainable layer. All layers before it are frozen.
        first_trainable_layer: usize,
        /// Number of training samples.
        train_samples: usize,
        /// Number of validation samples.
        val_samples: usize,
    },
    /// An epoch starts or resumes.
    EpochStart {
        /// Epoch, counted from 0.
        epoch: u64,
        /// Total number of epochs in the stage, including the baseline.
        epochs: u64,
        /// Whether this is the baseline epoch, which only validates.
        baseline: bool,
        /// Learning rates in this epoch, by group.
        learning_rates: Vec<GroupLr>,
    },
    /// A batch is done. In training, the weights have been updated.
    BatchDone {
        /// Training or validation.
        phase: Phase,
        /// Epoch, counted from 0.
        epoch: u64,
        /// The batch, and the metrics of the phase up to and including it.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A phase of an epoch is done.
    PhaseEnd {
        /// Training or validation.
        phase: Phase,
        /// Epoch, counted from 0.
        epoch: u64,
        /// Mean loss over the samples.
        loss: f64,
        /// Fraction of correct predictions.
        accuracy: f64,
        /// Duration of the phase in seconds. If it was stopped, only the time since the last
        /// resume.
        seconds: f64,
        /// Number of samples processed since the phase started or resumed, divided by `seconds`.
        samples_per_second: f64,
    },
    /// The validation accuracy is strictly greater than the previous best in the stage. The weights
    /// have already been copied.
    NewBest {
        /// Epoch, counted from 0.
        epoch: u64,
        /// Validation accuracy of the epoch, as a fraction.
        accuracy: f64,
    },
    /// The stage is complete and the best weights are restored.
    StageEnd {
        /// The epoch with the best validation accuracy, counted from 0.
        best_epoch: u64,
        /// Validation accuracy of the best epoch, as a fraction.
        best_accuracy: f64,
        /// Duration of the stage in seconds. If it was stopped, only the time since the last
        /// resume.
        seconds: f64,
    },
}

/// A callback that receives each event of a stage, and the state of the stage at this event.
///
/// It may save the state at any event except [`Event::StageEnd`]. A stage [resumed](Stage::resume)
/// from a saved state ends with the same result as one that never stopped.
pub type Observer<'a> = dyn FnMut(&Event, &Stage) -> Flow + 'a;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::EpochMetrics;

    #[test]
    fn an_event_serializes_to_a_flat_object() {
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
