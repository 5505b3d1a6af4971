//! The events of a stage, from which an observer can display progress. The crate prints nothing.

use serde::Serialize;

use crate::group::GroupLr;
use crate::metrics::{Phase, Progress};
use crate::params::Counts;

/// Returned by an [`Observer`](crate::Observer) to continue, pause or finish the stage.
///
/// # Example
///
/// Early stopping: finish after `patience` epochs without a better validation accuracy.
///
/// ```
/// use trainer::{Event, Flow, Phase, Stage};
///
/// let patience = 5;
/// let observer = |event: &Event, stage: &Stage| match (event, stage.best()) {
///     (Event::PhaseEnd { phase: Phase::Val, epoch, .. }, Some(best)) if epoch - best.epoch >= patience => {
///         Flow::Finish
///     }
///     _ => Flow::Continue,
/// };
/// # let _: &trainer::Observer = &observer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Continue the stage.
    Continue,
    /// Return from [`fit`](crate::fit()) at this event. The current weights stay in place, so that
    /// the stage can be resumed. Ignored at the events after the last validation.
    Pause,
    /// End the stage after the current epoch and restore the best weights. Create a new
    /// [`Stage`](crate::Stage) to train further.
    ///
    /// The stage stores this answer, so that it stays in effect if the stage is paused later in
    /// the epoch, saved and resumed. A state saved at the same event does not contain it yet.
    Finish,
}

/// The epoch whose weights a finished stage has restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// The baseline: no training epoch had a higher validation accuracy.
    Baseline,
    /// A training epoch, counted from 1.
    Epoch(u64),
}

/// An event in a stage, passed to its [`Observer`](crate::Observer).
///
/// Training epochs count from 1. Epoch 0 is the baseline, which only validates. Batches count from
/// 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A stage starts or resumes.
    StageStart {
        /// Number of training epochs in the stage.
        epochs: u64,
        /// First epoch to run. Greater than `epochs` if the stage is already complete.
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
        /// The epoch.
        epoch: u64,
        /// Number of training epochs in the stage.
        epochs: u64,
        /// Whether this is the baseline, that is, `epoch` 0.
        baseline: bool,
        /// Learning rates in this epoch, by group.
        learning_rates: Vec<GroupLr>,
    },
    /// A batch is done. In training, the weights have been updated.
    BatchDone {
        /// Training or validation.
        phase: Phase,
        /// The epoch.
        epoch: u64,
        /// The batch, and the metrics of the phase up to and including it.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A phase of an epoch is done.
    PhaseEnd {
        /// Training or validation.
        phase: Phase,
        /// The epoch.
        epoch: u64,
        /// Mean loss over the samples.
        loss: f64,
        /// Fraction of correct predictions.
        accuracy: f64,
        /// Duration of the phase in seconds. If the phase was paused, only the time since the last
        /// resume.
        seconds: f64,
        /// Number of samples processed since the phase started or resumed, divided by `seconds`.
        samples_per_second: f64,
    },
    /// The validation accuracy is strictly greater than the previous best in the stage, or the
    /// first one. The weights have already been copied.
    NewBest {
        /// The epoch.
        epoch: u64,
        /// Validation accuracy of the epoch, as a fraction.
        accuracy: f64,
    },
    /// The stage is complete and the best weights are restored.
    StageEnd {
        /// The epoch with the best validation accuracy.
        best: Best,
        /// Validation accuracy of the best epoch, as a fraction.
        accuracy: f64,
        /// Duration of the stage in seconds. If the stage was paused, only the time since the last
        /// resume.
        seconds: f64,
    },
}

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
