//! The events of a stage. The crate prints nothing; an observer renders events.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::Progress;
use crate::params::Counts;
use crate::stage::Stage;

/// Whether a stage continues after an event. Returned by its observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the stage.
    Continue,
    /// Stop here. The stage can continue later from its state.
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

/// A parameter group and its current learning rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLr {
    /// Layer pattern of the group.
    pub pattern: String,
    /// Number of parameters (scalar values) in the group.
    pub parameters: usize,
    /// Current learning rate.
    pub lr: f64,
}

/// An event of a stage. Epochs and batches are counted from 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage starts or resumes.
    StageStart {
        /// Total number of epochs.
        epochs: u64,
        /// First epoch to run. Greater than 0 if the stage resumes after a completed epoch.
        epoch: u64,
        /// Number of trainable and frozen parameters.
        counts: Counts,
        /// Parameter groups with their learning rates before the schedule.
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
        /// Total number of epochs.
        epochs: u64,
        /// Whether this is the baseline epoch, which only validates.
        baseline: bool,
        /// Current learning rates.
        learning_rates: Vec<GroupLr>,
    },
    /// A batch is done. In training, the weights have been updated.
    BatchDone {
        /// Training or validation.
        phase: Phase,
        /// Epoch, counted from 0.
        epoch: u64,
        /// The batch and the metrics of the phase so far.
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
        /// Duration in seconds, since the last resume if the phase was stopped.
        seconds: f64,
        /// Throughput over this duration.
        samples_per_second: f64,
    },
    /// The validation accuracy is strictly greater than the previous best of the stage. The stage
    /// has copied the weights.
    NewBest {
        /// Epoch, counted from 0.
        epoch: u64,
        /// Validation accuracy.
        accuracy: f64,
    },
    /// The stage is complete and the best weights are restored.
    StageEnd {
        /// The best epoch, counted from 0.
        best_epoch: u64,
        /// Validation accuracy of the best epoch.
        best_accuracy: f64,
        /// Duration in seconds, since the last resume if the stage was stopped.
        seconds: f64,
    },
}

/// The observer of a stage, called with each event and the state of the stage at this event.
///
/// It may save the state at any event except [`Event::StageEnd`]. A stage that is
/// [resumed](Stage::resume) from a saved state ends with the same result.
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
