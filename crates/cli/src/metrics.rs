//! `metrics.csv`: one row per epoch, written before the next epoch starts.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::config::StageName;
use crate::files::read_text;
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

impl EpochRow {
    /// Whether a run can have these values.
    fn is_valid(&self) -> bool {
        let mut scores = self.train.iter().chain([&self.val]);
        let is_time = (0.0..f64::INFINITY).contains(&self.seconds);
        let is_score =
            |score: &Score| score.loss.is_finite() && (0.0..=1.0).contains(&score.accuracy);
        is_time && scores.all(is_score)
    }
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

    /// Size limit of the file in bytes. Two stages of a million epochs, the most there can be, take about
    /// 200 MB.
    const MAX_SIZE: u64 = 256 << 20;

    /// Reads the rows of a `metrics.csv`.
    ///
    /// # Errors
    ///
    /// Returns an error if `path` is not a regular file, or if the file cannot be read, is larger than
    /// 256 MiB, is not a `metrics.csv` or has a value that no run writes: a loss that is not finite, an
    /// accuracy that is not between 0 and 1, or a negative time.
    pub fn read(path: &Path) -> anyhow::Result<Vec<EpochRow>> {
        let text = read_text(path, Self::MAX_SIZE);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let rows = rows.deserialize::<CsvRow>().map(|row| {
            let row = EpochRow::from(row?);
            ensure!(
                row.is_valid(),
                "a value of epoch {} is out of range",
                row.epoch
            );
            Ok(row)
        });
        rows.collect::<anyhow::Result<_>>()
            .with_context(|| format!("{} is not the metrics of a run", path.display()))
    }

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

/// A row as [`Metrics::to_csv`] writes it.
#[derive(Deserialize)]
struct CsvRow {
    stage: StageName,
    epoch: usize,
    train_loss: Option<f64>,
    train_accuracy: Option<f64>,
    val_loss: f64,
    val_accuracy: f64,
    images_per_second: f64,
    seconds: f64,
}

impl From<CsvRow> for EpochRow {
    fn from(row: CsvRow) -> Self {
        let score = |loss, accuracy| Score { loss, accuracy };
        Self {
            stage: row.stage,
            epoch: row.epoch,
            train: row
                .train_loss
                .zip(row.train_accuracy)
                .map(|(loss, accuracy)| score(loss, accuracy)),
            val: score(row.val_loss, row.val_accuracy),
            images_per_second: row.images_per_second,
            seconds: row.seconds,
        }
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
        let expected: Vec<EpochRow> = metrics.rows().to_vec();
        let read = Metrics::read(&run.file("metrics.csv")).unwrap();
        assert_eq!(read.len(), 2);
        for (read, expected) in read.iter().zip(expected) {
            let images_per_second = read.images_per_second;
            assert_eq!(images_per_second, 10.0, "the file has one decimal");
            assert_eq!(
                *read,
                EpochRow {
                    images_per_second,
                    ..expected
                }
            );
        }
        run.write("metrics.csv", b"stage,epoch\ntransfer,x\n")
            .unwrap();
        assert!(Metrics::read(&run.file("metrics.csv")).is_err());
    }

    #[test]
    fn values_that_no_run_writes_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Metrics::FILE);
        let read = |row: &str| {
            let heading = "stage,epoch,train_loss,train_accuracy,val_loss,val_accuracy,\
                           images_per_second,seconds";
            std::fs::write(&path, format!("{heading}\ntransfer,{row}\n")).unwrap();
            Metrics::read(&path)
        };
        // The baseline of a very small data set can take no measurable time.
        for row in ["1,,,0.5,0,inf,0.000", "2,0.5,1,0.5,1,9.9,2.500"] {
            assert_eq!(read(row).unwrap().len(), 1, "{row}");
        }
        for row in [
            "1,,,NaN,0.5,1,1",
            "1,,,0.5,NaN,1,1",
            "1,,,0.5,1.5,1,1",
            "1,,,0.5,0.5,1,-1",
            "1,,,0.5,0.5,1,inf",
            "1,inf,0.5,0.5,0.5,1,1",
            "1,0.5,-0.5,0.5,0.5,1,1",
        ] {
            let error = format!("{:#}", read(row).unwrap_err());
            assert!(error.contains("epoch 1 is out of range"), "{row}: {error}");
        }
    }
}
