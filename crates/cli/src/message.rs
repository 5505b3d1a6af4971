//! What `waggle train` tells while it works: one closed list, drawn by [`crate::render`].
//!
//! The trainer's events count epochs from 0 and know no stage name; here they are as people and
//! `metrics.csv` count them, from 1.

use serde::Serialize;
use trainer::{Event, Phase};

use crate::bad_pictures::Skipped;
use crate::metrics::Score;
use crate::values::LayerRate;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Message<'a> {
    /// Which pictures are used, and how to get others.
    Data {
        /// `given`, `photographs` or `sample`.
        source: &'static str,
        /// The folder.
        root: String,
        /// Class names, by index.
        classes: &'a [String],
        /// Pictures in train.
        train_pictures: usize,
        /// Pictures in val.
        val_pictures: usize,
        /// What to do for other pictures.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'static str>,
    },
    /// Classes that val has no folder for.
    UnmeasuredClasses {
        /// Their names.
        classes: &'a [String],
    },
    /// Something that takes a while begins.
    Working {
        /// What, as in "checking 397 pictures".
        what: String,
    },
    /// A picture cannot be decoded and is left out.
    SkippedPicture(&'a Skipped),
    /// A file is being fetched.
    Download {
        /// From where.
        what: &'a str,
        /// Bytes so far.
        done: usize,
        /// Bytes in all.
        total: usize,
    },
    /// Where it computes.
    Device {
        /// `cpu`, `cuda:N` or `metal`.
        device: &'a str,
        /// Threads that compute.
        threads: usize,
        /// Why it is not the device one would expect.
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<&'a str>,
    },
    /// The network, layer by layer.
    Network {
        /// Its name.
        architecture: &'a str,
        /// Numbers in it.
        parameters: usize,
        /// A table for people.
        #[serde(skip)]
        table: &'a str,
    },
    /// What became of the weights.
    Weights {
        /// Where they came from.
        source: &'a str,
        /// Parameters taken from there.
        loaded: &'a [String],
        /// Parameters that start at random.
        fresh: &'a [String],
        /// Tensors of the file that fit, but were replaced: the head of other classes. They are among the fresh.
        unused: &'a [String],
        /// Parameters of another shape in the file: name, shape there, shape here. They are among the fresh.
        mismatched: &'a [(String, Vec<usize>, Vec<usize>)],
    },
    /// The run directory exists.
    Run {
        /// Its path.
        directory: String,
    },
    /// A checkpoint of the run that goes on is not usable.
    DamagedCheckpoint {
        /// Its file.
        file: String,
        /// What is wrong with it.
        reason: &'a str,
    },
    /// The run goes on from a checkpoint.
    Resumed {
        /// Its file.
        file: String,
        /// `transfer` or `finetune`.
        stage: &'static str,
        /// Counted from 1.
        epoch: u64,
        /// Training batches of the epoch that are done.
        batches: usize,
    },
    /// The pictures are not those that the run began with, and the user wants to go on.
    ChangedData {
        /// What is different.
        changes: &'a str,
    },
    /// The run that is to go on is done already.
    AlreadyDone {
        /// The run directory.
        directory: String,
    },
    /// A checkpoint is on disk.
    Checkpoint {
        /// Its file.
        file: String,
        /// Its size.
        bytes: u64,
        /// Seconds that training waited for it.
        waited: f64,
        /// Seconds that writing took, beside training.
        written: f64,
    },
    /// A signal ended the training; it can go on.
    Interrupted {
        /// `SIGINT` or `SIGTERM`.
        signal: String,
        /// The run directory.
        directory: String,
    },
    /// A stage begins.
    StageStart {
        /// `transfer` or `finetune`.
        stage: &'static str,
        /// How many it has, the one that only validates included.
        epochs: u64,
        /// Which layers train at which rate.
        groups: Vec<LayerRate>,
        /// Numbers that train.
        trainable_parameters: usize,
        /// Numbers that do not.
        frozen_parameters: usize,
        /// Pictures in a training pass.
        #[serde(skip)]
        train_pictures: u64,
        /// Pictures in a validation pass.
        #[serde(skip)]
        val_pictures: u64,
    },
    /// An epoch begins.
    EpochStart {
        /// The stage.
        stage: &'static str,
        /// Counted from 1.
        epoch: u64,
        /// How many the stage has.
        epochs: u64,
        /// Nothing trains in it.
        baseline: bool,
    },
    /// A batch is done.
    Batch {
        /// The stage.
        stage: &'static str,
        /// `train` or `val`.
        phase: Phase,
        /// Counted from 1.
        epoch: u64,
        /// Counted from 1.
        batch: usize,
        /// Pictures of the pass so far.
        pictures: u64,
        /// Pictures of the whole pass.
        pictures_total: u64,
        /// Mean loss and accuracy of the pass so far.
        #[serde(flatten)]
        score: Score,
    },
    /// A pass over train or val is done.
    Phase {
        /// The stage.
        stage: &'static str,
        /// `train` or `val`.
        phase: Phase,
        /// Counted from 1.
        epoch: u64,
        /// Mean loss and accuracy of the pass.
        #[serde(flatten)]
        score: Score,
        /// How long it took.
        seconds: f64,
        /// Its speed.
        pictures_per_second: f64,
    },
    /// The val accuracy is higher than ever before in the stage.
    NewBest {
        /// The stage.
        stage: &'static str,
        /// Counted from 1.
        epoch: u64,
        /// The accuracy.
        accuracy: f64,
    },
    /// A stage is over; the best weights are back.
    StageEnd {
        /// The stage.
        stage: &'static str,
        /// The epoch of the best weights, counted from 1.
        best_epoch: u64,
        /// Their val accuracy.
        best_accuracy: f64,
        /// How long the stage took.
        seconds: f64,
    },
    /// All is done and on disk.
    Done {
        /// The run directory.
        directory: String,
        /// The model file in it.
        model: String,
        /// Loss and accuracy of that model on the val pictures.
        #[serde(flatten)]
        score: Score,
    },
}

impl Message<'_> {
    /// A trainer's event of a stage.
    pub fn of_stage(stage: &'static str, event: &Event) -> Message<'static> {
        match event {
            Event::StageStart {
                epochs,
                counts,
                groups,
                train_samples,
                val_samples,
                ..
            } => Message::StageStart {
                stage,
                epochs: *epochs,
                groups: groups
                    .iter()
                    .map(|group| LayerRate {
                        layers: group.pattern.clone(),
                        rate: group.lr,
                    })
                    .collect(),
                trainable_parameters: counts.trainable,
                frozen_parameters: counts.frozen,
                train_pictures: *train_samples as u64,
                val_pictures: *val_samples as u64,
            },
            Event::EpochStart {
                epoch,
                epochs,
                baseline,
                ..
            } => Message::EpochStart {
                stage,
                epoch: epoch + 1,
                epochs: *epochs,
                baseline: *baseline,
            },
            Event::BatchDone {
                phase,
                epoch,
                progress,
            } => Message::Batch {
                stage,
                phase: *phase,
                epoch: epoch + 1,
                batch: progress.batch + 1,
                pictures: progress.samples,
                pictures_total: progress.samples_total,
                score: Score {
                    loss: progress.loss,
                    accuracy: progress.accuracy,
                },
            },
            Event::PhaseEnd {
                phase,
                epoch,
                loss,
                accuracy,
                seconds,
                samples_per_second,
            } => Message::Phase {
                stage,
                phase: *phase,
                epoch: epoch + 1,
                score: Score {
                    loss: *loss,
                    accuracy: *accuracy,
                },
                seconds: *seconds,
                pictures_per_second: *samples_per_second,
            },
            Event::NewBest { epoch, accuracy } => Message::NewBest {
                stage,
                epoch: epoch + 1,
                accuracy: *accuracy,
            },
            Event::StageEnd {
                best_epoch,
                best_accuracy,
                seconds,
            } => Message::StageEnd {
                stage,
                best_epoch: best_epoch + 1,
                best_accuracy: *best_accuracy,
                seconds: *seconds,
            },
        }
    }
}
