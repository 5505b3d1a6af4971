//! The error report for a non-finite loss: NaN or infinite.

use std::path::Path;

use dataset::Sample;
use trainer::{BestEpoch, Error, NonFiniteLoss, Phase};

use crate::config::StageName;
use crate::error::Diagnostic;

/// Facts about a stage that the trainer does not have, to add to the error report.
pub struct NonFiniteLossReport<'a> {
    /// Stage in which the loss became non-finite.
    pub stage: StageName,
    /// Training images, to name those of the failed batch.
    pub train: &'a [Sample],
    /// Validation images, to name those of the failed batch.
    pub val: &'a [Sample],
    /// Best epoch of the stage so far, if any was validated.
    pub best: Option<&'a BestEpoch>,
    /// Path of the best weights of the run so far, if any were saved.
    pub model: Option<&'a Path>,
}

impl NonFiniteLossReport<'_> {
    /// Converts a non-finite loss to a report with these facts. Other errors stay unchanged.
    pub fn explain(&self, error: Error) -> anyhow::Error {
        match &error {
            Error::NonFiniteLoss(loss) => self.report(loss).into(),
            _ => error.into(),
        }
    }

    fn report(&self, loss: &NonFiniteLoss) -> Diagnostic {
        let epoch = loss
            .epoch
            .map_or_else(String::new, |epoch| format!(" of epoch {}", epoch + 1));
        let learning_rates: Vec<String> = loss
            .learning_rates
            .iter()
            .map(|group| format!("{} {:e}", group.pattern, group.lr))
            .collect();
        let samples = match loss.phase {
            Phase::Train => self.train,
            Phase::Val => self.val,
        };
        let images = loss.samples.iter().filter_map(|&index| samples.get(index));
        let images = images.map(|sample| format!("  {}", sample.path.display()));

        let mut items = Vec::new();
        if !learning_rates.is_empty() {
            items.push(format!("learning rates: {}", learning_rates.join(", ")));
        }
        items.push("images of the batch:".to_string());
        items.extend(images);
        items.push(self.saved_weights());
        Diagnostic::new(format!(
            "the loss is {} in {} batch {}{epoch} of stage {}",
            loss.loss,
            loss.phase,
            loss.batch + 1,
            self.stage.as_str(),
        ))
        .items(items)
        .help(if learning_rates.is_empty() {
            "check the initial weights and these images; the stage has not trained yet, so `--resume` would fail \
             at the same batch"
        } else {
            "start a new run with learning rates ten times smaller (`--lr`, `--finetune-lr`); if the same images \
             fail again, inspect them; `--resume` would fail at the same batch"
        })
    }

    fn saved_weights(&self) -> String {
        match (self.best, self.model) {
            (Some(best), Some(model)) => format!(
                "best weights so far: {} (epoch {}, val accuracy {:.4})",
                model.display(),
                best.epoch + 1,
                best.accuracy,
            ),
            (None, Some(model)) => {
                format!("best weights of the previous stage: {}", model.display())
            }
            (_, None) => "no weights were saved, because no epoch had been validated".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;
    use trainer::GroupLr;

    #[test]
    fn the_report_names_batch_learning_rates_images_and_saved_weights() {
        let sample = |path: &str| Sample {
            path: path.into(),
            label: 0,
        };
        let report = NonFiniteLossReport {
            stage: StageName::Finetune,
            train: &[sample("a.png"), sample("b.png"), sample("c.png")],
            val: &[],
            best: None,
            model: Some(Path::new("runs/train/model.safetensors")),
        };
        let loss = Error::NonFiniteLoss(Box::new(NonFiniteLoss {
            loss: f64::NAN,
            phase: Phase::Train,
            epoch: Some(2),
            batch: 4,
            samples: vec![2, 0],
            learning_rates: vec![GroupLr {
                pattern: "features".to_string(),
                parameters: 9,
                lr: 1e30,
            }],
        }));
        let text = error::plain(&report.explain(loss));
        assert_eq!(
            text,
            "\
error: the loss is NaN in train batch 5 of epoch 3 of stage finetune
  learning rates: features 1e30
  images of the batch:
    c.png
    a.png
  best weights of the previous stage: runs/train/model.safetensors
help: start a new run with learning rates ten times smaller (`--lr`, `--finetune-lr`); if the same images \
fail again, inspect them; `--resume` would fail at the same batch
"
        );
    }
}
