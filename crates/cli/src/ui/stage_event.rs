//! Events of the trainer as messages.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::json;
use trainer::{Best, Event};

use crate::config::StageName;

/// An event of the trainer in a stage.
///
/// The trainer counts batches from 0, training epochs from 1, and numbers the baseline as epoch 0.
/// In JSON, batches and epochs count from 1, so that the baseline is epoch 1 as in `metrics.csv`,
/// and numbers of epochs include the baseline.
#[derive(Debug, Clone, Copy)]
pub struct StageEvent<'a> {
    /// The stage.
    pub stage: StageName,
    /// The event.
    pub event: &'a Event,
}

impl Serialize for StageEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stage = ("stage", json!(self.stage));
        serializer.collect_map(match self.event {
            Event::StageStart {
                epochs,
                counts,
                groups,
                ..
            } => {
                let groups = groups.iter();
                let groups = groups.map(|group| json!({ "layers": group.pattern, "lr": group.lr }));
                vec![
                    ("event", json!("stage_start")),
                    stage,
                    ("epochs", json!(epochs + 1)),
                    ("groups", groups.collect()),
                    ("trainable_parameters", json!(counts.trainable)),
                    ("frozen_parameters", json!(counts.frozen)),
                ]
            }
            Event::EpochStart {
                epoch,
                epochs,
                baseline,
                ..
            } => vec![
                ("event", json!("epoch_start")),
                stage,
                ("epoch", json!(epoch + 1)),
                ("epochs", json!(epochs + 1)),
                ("baseline", json!(baseline)),
            ],
            Event::BatchDone {
                phase,
                epoch,
                progress,
            } => vec![
                ("event", json!("batch")),
                stage,
                ("phase", json!(phase)),
                ("epoch", json!(epoch + 1)),
                ("batch", json!(progress.batch + 1)),
                ("images", json!(progress.samples)),
                ("images_total", json!(progress.samples_total)),
                ("loss", json!(progress.loss)),
                ("accuracy", json!(progress.accuracy)),
            ],
            Event::PhaseEnd {
                phase,
                epoch,
                loss,
                accuracy,
                seconds,
                samples_per_second,
            } => vec![
                ("event", json!("phase")),
                stage,
                ("phase", json!(phase)),
                ("epoch", json!(epoch + 1)),
                ("loss", json!(loss)),
                ("accuracy", json!(accuracy)),
                ("seconds", json!(seconds)),
                ("images_per_second", json!(samples_per_second)),
            ],
            Event::NewBest { epoch, accuracy } => vec![
                ("event", json!("new_best")),
                stage,
                ("epoch", json!(epoch + 1)),
                ("accuracy", json!(accuracy)),
            ],
            Event::StageEnd {
                best,
                accuracy,
                seconds,
            } => vec![
                ("event", json!("stage_end")),
                stage,
                (
                    "best_epoch",
                    json!(match best {
                        Best::Baseline => 1,
                        Best::Epoch(epoch) => epoch + 1,
                    }),
                ),
                ("best_accuracy", json!(accuracy)),
                ("seconds", json!(seconds)),
            ],
            _ => return Err(S::Error::custom("unknown event of the trainer")),
        })
    }
}
