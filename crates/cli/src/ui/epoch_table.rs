//! The table of a stage's epochs in the terminal, with one line per epoch.

use console::Style;
use trainer::{Event, Phase};

use super::text::{duration, estimate, loss, pad_left, percent};
use super::time_left::TimeLeft;
use super::{Message, StageEvent};
use crate::config::StageName;
use crate::metrics::Score;

/// The table of the current stage, with the results of its current epoch so far.
#[derive(Default)]
pub(super) struct EpochTable {
    time_left: TimeLeft,
    /// Number of epochs in the stage, including the baseline.
    pub(super) epochs: u64,
    train_images: u64,
    val_images: u64,
    /// The current epoch, counted from 1.
    epoch: u64,
    train: Option<Score>,
    val: Option<Score>,
    seconds: f64,
}

impl EpochTable {
    /// Records the plan of the run, the start of a stage or an epoch, or the results of a phase.
    pub(super) fn record(&mut self, message: &Message<'_>) {
        match message {
            Message::Run { stages, .. } => self.time_left.plan(stages),
            Message::Stage(StageEvent { stage, event }) => self.record_event(*stage, event),
            _ => {}
        }
    }

    fn record_event(&mut self, stage: StageName, event: &Event) {
        match *event {
            Event::StageStart {
                epochs,
                train_samples,
                val_samples,
                ..
            } => {
                self.epochs = epochs + 1;
                (self.train_images, self.val_images) = (train_samples as u64, val_samples as u64);
                self.time_left
                    .start_stage(stage, self.train_images, self.val_images);
            }
            Event::EpochStart { epoch, .. } => {
                self.epoch = epoch + 1;
                (self.train, self.val, self.seconds) = (None, None, 0.0);
            }
            Event::PhaseEnd {
                phase,
                loss,
                accuracy,
                seconds,
                samples_per_second,
                ..
            } => {
                self.time_left.record(phase, samples_per_second);
                self.seconds += seconds;
                let score = Some(Score { loss, accuracy });
                match phase {
                    Phase::Train => self.train = score,
                    Phase::Val => self.val = score,
                }
            }
            _ => {}
        }
    }

    /// The label of the progress bar and the number of images for a phase of this epoch.
    pub(super) fn phase(&self, phase: Phase) -> (String, u64) {
        let images = match phase {
            Phase::Train => self.train_images,
            Phase::Val => self.val_images,
        };
        (format!("{}/{} {phase}", self.epoch, self.epochs), images)
    }

    /// The table's header line.
    pub(super) fn head(&self) -> String {
        let head = [
            "epoch",
            "train loss",
            "acc",
            "val loss",
            "acc",
            "",
            "time",
            "left",
        ];
        self.line(head.map(String::from))
    }

    /// Returns the row of the current epoch once. Returns `None` if the epoch is not complete or its
    /// row has been returned.
    ///
    /// `best` is the style of the val accuracy and of the mark `*` if the epoch is the best so far.
    pub(super) fn take_row(&mut self, is_best: bool, best: &Style) -> Option<String> {
        let val = self.val.take()?;
        let is_baseline = self.epoch == 1;
        let [train_loss, train_accuracy] = match self.train {
            Some(score) => [loss(score.loss), percent(score.accuracy)],
            None if is_baseline => [String::new(), "baseline".to_string()],
            // The train results are missing because the run was resumed after this epoch's train
            // phase.
            None => ["-", "-"].map(String::from),
        };
        let (mut val_accuracy, mut mark) = (percent(val.accuracy), String::new());
        if is_best && !is_baseline {
            val_accuracy = best.apply_to(val_accuracy).to_string();
            mark = best.apply_to("*").to_string();
        }
        let left = self.time_left.after(self.epoch).filter(|left| *left > 0.0);
        Some(self.line([
            format!("{}/{}", self.epoch, self.epochs),
            train_loss,
            train_accuracy,
            loss(val.loss),
            val_accuracy,
            mark,
            duration(self.seconds),
            left.map_or_else(String::new, estimate),
        ]))
    }

    /// Aligns cells to a line of at most 60 columns, or more if the stage has at least a hundred
    /// epochs.
    fn line(&self, cells: [String; 8]) -> String {
        let epochs = 2 * self.epochs.to_string().len() + 1;
        let widths = [epochs.max(5), 11, 8, 10, 8, 2, 8, 8];
        let cells = cells.iter().zip(widths);
        let cells: String = cells.map(|(cell, width)| pad_left(cell, width)).collect();
        cells.trim_end().to_string()
    }
}
