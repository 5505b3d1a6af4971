//! `metrics.csv`: one row per epoch, written before the next epoch starts.

use serde::{Deserialize, Serialize};

use crate::config::StageName;
use crate::run_dir::{Difference, RunDir};

/// Mean loss and accuracy over a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy per image, in nats.
    pub loss: f64,
    /// Correctly classified images ÷ all images, from 0 to 1.
    pub accuracy: f64,
}

/// The result of a train or val phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Mean loss and accuracy over the images of the phase.
    pub score: Score,
    /// Time in seconds since the phase started or was resumed.
    pub seconds: f64,
    /// Number of images processed in that time.
    pub images: f64,
}

/// The metrics of one epoch: a row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Stage that the epoch belongs to.
    pub stage: StageName,
    /// Epoch within the stage, counted from 1.
    pub epoch: usize,
    /// Loss and accuracy during training. `None` in the baseline epoch, which only validates.
    pub train: Option<Score>,
    /// Loss and accuracy on the val images, after the training steps of the epoch.
    pub val: Score,
    /// Images processed per second over both phases.
    pub images_per_second: f64,
    /// Total duration of both phases in seconds. For a resumed phase, only the time since it was
    /// resumed.
    pub seconds: f64,
}

/// The metrics of all epochs so far, mirrored in `metrics.csv`.
///
/// For each new row, the whole file is written again and renamed into place, so that it never ends
/// in a partial line.
#[derive(Debug, Default)]
pub struct Metrics {
    rows: Vec<EpochRow>,
}

impl Metrics {
    /// Name of the file in the run directory.
    pub const FILE: &str = "metrics.csv";

    /// The rows so far, in the order of the epochs.
    pub fn rows(&self) -> &[EpochRow] {
        &self.rows
    }

    /// Restores the rows from a checkpoint and rewrites the file, dropping any rows written after
    /// the checkpoint. Also returns how the file differed from the checkpoint's rows, if it did.
    ///
    /// # Errors
    ///
    /// Returns an error if the run directory cannot be written to.
    pub fn restore(
        rows: Vec<EpochRow>,
        run: &RunDir,
    ) -> anyhow::Result<(Self, Option<Difference>)> {
        let metrics = Self { rows };
        let csv = metrics.to_csv()?;
        // A run writes the file with its first row.
        let is_expected = !metrics.rows.is_empty();
        let difference = run.difference(Self::FILE, &csv, csv.len());
        run.write(Self::FILE, &csv)?;
        Ok((metrics, difference.filter(|_| is_expected)))
    }

    /// Appends a row and rewrites the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the run directory cannot be written to.
    pub fn push(&mut self, row: EpochRow, run: &RunDir) -> anyhow::Result<()> {
        self.rows.push(row);
        run.write(Self::FILE, &self.to_csv()?)
    }

    /// The rows as CSV. Losses and accuracies have all their digits, so that equal values in two
    /// files mean equal results.
    fn to_csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record([
            "stage",
            "epoch",
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "images_per_second",
            "seconds",
        ])?;
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            csv.write_record([
                row.stage.as_str().to_string(),
                row.epoch.to_string(),
                number(row.train.map(|train| train.loss)),
                number(row.train.map(|train| train.accuracy)),
                row.val.loss.to_string(),
                row.val.accuracy.to_string(),
                format!("{:.1}", row.images_per_second),
                format!("{:.3}", row.seconds),
            ])?;
        }
        Ok(csv.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_has_no_train_fields() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let mut metrics = Metrics::default();
        let val = Score {
            loss: 0.75,
            accuracy: 0.5,
        };
        let first = EpochRow {
            stage: StageName::Transfer,
            epoch: 1,
            train: None,
            val,
            images_per_second: 10.04,
            seconds: 1.5,
        };
        metrics.push(first.clone(), &run).unwrap();
        metrics
            .push(
                EpochRow {
                    epoch: 2,
                    train: Some(Score {
                        loss: 0.5,
                        accuracy: 1.0,
                    }),
                    ..first
                },
                &run,
            )
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(run.file("metrics.csv")).unwrap(),
            "stage,epoch,train_loss,train_accuracy,val_loss,val_accuracy,images_per_second,seconds\n\
             transfer,1,,,0.75,0.5,10.0,1.500\n\
             transfer,2,0.5,1,0.75,0.5,10.0,1.500\n"
        );
    }
}
