//! What to say when a loss is no longer a number: where, on which pictures, at which rates, and what to do.

use std::path::Path;

use anyhow::anyhow;
use dataset::Sample;
use trainer::{BestEpoch, Error, NonFiniteLoss, Phase};

use crate::config::StageName;

/// What the trainer does not know about a run.
pub struct NonFiniteLossReport<'a> {
    /// The stage.
    pub stage: StageName,
    /// The train pictures.
    pub train: &'a [Sample],
    /// The val pictures.
    pub val: &'a [Sample],
    /// The best epoch of the stage.
    pub best: Option<&'a BestEpoch>,
    /// Where the best weights so far are, if there are any.
    pub model: Option<&'a Path>,
}

impl NonFiniteLossReport<'_> {
    /// Puts a loss that is not finite into words; other errors stay as they are.
    pub fn explain(&self, error: Error) -> anyhow::Error {
        match &error {
            Error::NonFiniteLoss(loss) => anyhow!(self.words(loss)),
            _ => error.into(),
        }
    }

    fn words(&self, loss: &NonFiniteLoss) -> String {
        let samples = match loss.phase {
            Phase::Train => self.train,
            Phase::Val => self.val,
        };
        let pictures: Vec<String> = loss
            .samples
            .iter()
            .filter_map(|&index| samples.get(index))
            .map(|sample| format!("\n    {}", sample.path.display()))
            .collect();
        let rates: Vec<String> = loss
            .learning_rates
            .iter()
            .map(|group| format!("{} {:e}", group.pattern, group.lr))
            .collect();
        let epoch = loss
            .epoch
            .map_or_else(String::new, |epoch| format!(" of epoch {}", epoch + 1));
        let kept = match (self.best, self.model) {
            (Some(best), Some(model)) => format!(
                "The best weights so far, of epoch {} with val accuracy {:.4}, are kept in {}",
                best.epoch + 1,
                best.accuracy,
                model.display()
            ),
            (None, Some(model)) => format!(
                "The best weights of the stage before are kept in {}",
                model.display()
            ),
            (_, None) => {
                "No epoch was validated before, so there are no weights to keep".to_string()
            }
        };
        format!(
            "training stopped: the loss is {} in {} batch {}{epoch} of stage {}\n  \
             learning rates: {}\n  pictures of the batch:{}\n\
             {kept}.\n\
             Start again with learning rates ten times smaller (--lr, --finetune-lr); if it stops at the same pictures, \
             look at them. To resume this run would lead to the same batch.",
            loss.loss,
            loss.phase,
            loss.batch + 1,
            self.stage.as_str(),
            rates.join(", "),
            pictures.concat(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer::GroupLr;

    #[test]
    fn everything_that_helps_is_said() {
        let sample = |path: &str| Sample {
            path: path.into(),
            label: 0,
        };
        let scene = NonFiniteLossReport {
            stage: StageName::Finetune,
            train: &[sample("a.png"), sample("b.png"), sample("c.png")],
            val: &[],
            best: None,
            model: Some(Path::new("runs/train/model.safetensors")),
        };
        let error = Error::NonFiniteLoss(Box::new(NonFiniteLoss {
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
        let words = scene.explain(error).to_string();
        for part in [
            "the loss is NaN in train batch 5 of epoch 3 of stage finetune",
            "features 1e30",
            "c.png\n    a.png",
            "ten times smaller",
            "runs/train/model.safetensors",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("b.png"), "{words}");
    }
}
