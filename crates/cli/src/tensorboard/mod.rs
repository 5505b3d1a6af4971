//! Event files for TensorBoard, in the directory `tensorboard` of a run.
//!
//! Each process that trains appends to a file of its own. A resumed run states the step at which it
//! continues, and TensorBoard drops the events of later steps from earlier files. Steps are epochs,
//! counted from 1 over all stages.

mod hparams;
mod protobuf;
mod record;

use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use image::ImageReader;

use crate::config::Config;
use crate::metrics::EpochRow;
use protobuf::Message;

/// Name of the directory in the run directory.
pub const DIRECTORY: &str = "tensorboard";

/// Largest number of event files of one run that start in the same second.
const MAX_FILES: usize = 1000;

/// Writes the events of a run.
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Creates an event file in the directory of `run`, whose epochs so far are `rows`. The first file
    /// of a run begins with the settings of the run, the image `train_batch` and these epochs.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be created or written to.
    pub fn create(run: &Path, config: &Config, rows: &[EpochRow]) -> anyhow::Result<Self> {
        let directory = run.join(DIRECTORY);
        let is_first = !directory.exists();
        let file = create_file(&directory)
            .with_context(|| format!("cannot create an event file in {}", directory.display()))?;
        let mut writer = Self { file };
        writer.write(0, |event| event.text(event::FILE_VERSION, "brain.Event:2"))?;
        if !is_first {
            let start = Message::default().number(1, session::START);
            writer.write(rows.len() + 1, |event| {
                event.message(event::SESSION_LOG, start)
            })?;
            return Ok(writer);
        }
        for value in hparams::start(config)? {
            writer.summary(0, vec![value])?;
        }
        writer.image(0, "train_batch", &fs::read(run.join("train_batch.png"))?)?;
        for (index, row) in rows.iter().enumerate() {
            writer.epoch(index + 1, row)?;
        }
        Ok(writer)
    }

    /// Writes the metrics of the epoch number `step`.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written to.
    pub fn epoch(&mut self, step: usize, row: &EpochRow) -> anyhow::Result<()> {
        let train = row.train.map(|train| {
            [
                ("loss/train", train.loss),
                ("accuracy/train", train.accuracy),
            ]
        });
        let val = [
            ("loss/val", row.val.loss),
            ("accuracy/val", row.val.accuracy),
            ("speed/images_per_second", row.images_per_second),
        ];
        let values = train.into_iter().flatten().chain(val);
        let values = values.map(|(tag, value)| {
            let value = Message::default().text(1, tag).float(2, value as f32);
            value.message(9, plugin("scalars"))
        });
        self.summary(step, values.collect())
    }

    /// Writes an image from its PNG.
    ///
    /// # Errors
    ///
    /// Returns an error if `png` is not a PNG, or if the file cannot be written to.
    pub fn image(&mut self, step: usize, tag: &str, png: &[u8]) -> anyhow::Result<()> {
        let reader = ImageReader::new(Cursor::new(png)).with_guessed_format()?;
        let (width, height) = reader.into_dimensions()?;
        /// RGB.
        const COLOR_SPACE: u64 = 3;
        let image = Message::default()
            .number(1, height.into())
            .number(2, width.into())
            .number(3, COLOR_SPACE)
            .bytes(4, png);
        let value = Message::default().text(1, tag).message(4, image);
        self.summary(step, vec![value.message(9, plugin("images"))])
    }

    /// Writes that the run is complete.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written to.
    pub fn finish(&mut self, step: usize) -> anyhow::Result<()> {
        self.summary(step, vec![hparams::end()])
    }

    fn summary(&mut self, step: usize, values: Vec<Message>) -> anyhow::Result<()> {
        let summary = values
            .into_iter()
            .fold(Message::default(), |summary, value| {
                summary.message(1, value)
            });
        self.write(step, |event| event.message(event::SUMMARY, summary))
    }

    /// Appends an event as one record, so that readers see it completely or not at all.
    fn write(
        &mut self,
        step: usize,
        content: impl FnOnce(Message) -> Message,
    ) -> anyhow::Result<()> {
        let event = Message::default()
            .double(event::WALL_TIME, seconds())
            .number(event::STEP, step as u64);
        let record = record::encode(content(event).as_bytes());
        self.file
            .write_all(&record)
            .context("cannot write the event file of TensorBoard")
    }
}

/// Fields of `tensorflow.Event` (tensorflow/core/util/event.proto).
mod event {
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
}

/// Values of `tensorflow.SessionLog.status`.
mod session {
    pub const START: u64 = 1;
}

/// `tensorflow.SummaryMetadata` that assigns a value to a dashboard.
fn plugin(name: &str) -> Message {
    Message::default().message(1, Message::default().text(1, name))
}

/// Seconds since 1970.
fn seconds() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |since| since.as_secs_f64())
}

/// Creates an event file whose name sorts after those of earlier processes, as TensorBoard reads the
/// files of a directory in the order of their names.
fn create_file(directory: &Path) -> std::io::Result<File> {
    fs::create_dir_all(directory)?;
    let mut number = 0;
    loop {
        let name = format!(
            "events.out.tfevents.{:010}.waggle.{number:03}",
            seconds() as u64
        );
        let mut options = File::options();
        match options
            .append(true)
            .create_new(true)
            .open(directory.join(name))
        {
            Err(error)
                if error.kind() == std::io::ErrorKind::AlreadyExists && number < MAX_FILES =>
            {
                number += 1;
            }
            result => return result,
        }
    }
}
