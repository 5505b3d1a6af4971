//! `metrics.csv`: one row an epoch, on disk before the next epoch starts.

use serde::{Deserialize, Serialize};

use crate::config::StageName;
use crate::run_dir::RunDir;

/// Loss and accuracy over a pass: the mean over its pictures, and the share that was right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Right ÷ all, from 0 to 1.
    pub accuracy: f64,
}

/// A pass over a split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// What it found.
    pub score: Score,
    /// How long it took; since it went on, if it was interrupted.
    pub seconds: f64,
    /// Pictures in that time.
    pub pictures: f64,
}

/// One epoch of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The stage.
    pub stage: StageName,
    /// Counted from 1.
    pub epoch: usize,
    /// Nothing in the first epoch of a stage, which only validates.
    pub train: Option<Score>,
    /// On the validation pictures, after the epoch's steps.
    pub val: Score,
    /// Pictures of both passes per second.
    pub images_per_second: f64,
    /// The epoch, both passes.
    pub seconds: f64,
}

/// The rows so far and the file that mirrors them.
///
/// The file is small (a line an epoch), so each row rewrites it beside its place and renames: there is
/// never half a line in it.
#[derive(Debug, Default)]
pub struct Metrics {
    rows: Vec<EpochRow>,
}

impl Metrics {
    /// The file's name in the run directory.
    pub const FILE: &str = "metrics.csv";

    /// The rows so far.
    pub fn rows(&self) -> &[EpochRow] {
        &self.rows
    }

    /// Takes up the rows of a run that goes on, and writes the file: rows after its checkpoint go.
    ///
    /// # Errors
    ///
    /// When the run directory cannot be written to.
    pub fn restore(rows: Vec<EpochRow>, run: &RunDir) -> anyhow::Result<Self> {
        let metrics = Self { rows };
        run.write(Self::FILE, &metrics.to_csv()?)?;
        Ok(metrics)
    }

    /// Adds a row and writes the file.
    ///
    /// # Errors
    ///
    /// When the run directory cannot be written to.
    pub fn push(&mut self, row: EpochRow, run: &RunDir) -> anyhow::Result<()> {
        self.rows.push(row);
        run.write(Self::FILE, &self.to_csv()?)
    }

    /// The table. Losses and accuracies have all their digits, so that equal files mean equal runs.
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
    fn the_first_epoch_has_no_train_fields() {
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
