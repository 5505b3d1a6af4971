//! Events of `waggle train` as shown to the user. [`crate::render`] prints them.
//!
//! The trainer counts batches from 0, numbers the baseline as epoch 0, and has no stage names.
//! Messages count batches and epochs from 1, so that the baseline is epoch 1 as in `metrics.csv`, and
//! name the stage. With `--json`, each message is one line; its field names are stable.

use serde::Serialize;
use trainer::{Best, Event, Phase};

use crate::args::types::LayerRate;
use crate::config::Skipped;
use crate::metrics::Score;

/// One event to show to the user.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Message<'a> {
    /// The data set has been opened.
    Data(DataSet<'a>),
    /// The val split has no images for some classes.
    ClassesWithoutVal {
        /// Names of these classes.
        classes: &'a [String],
    },
    /// A slow operation starts.
    Working {
        /// The operation, such as "checking 397 images".
        what: String,
    },
    /// An image cannot be decoded and is skipped.
    SkippedImage(&'a Skipped),
    /// A download has made progress.
    Download {
        /// Address of the file on the hub.
        what: &'a str,
        /// Number of bytes downloaded so far.
        done: usize,
        /// Size of the file in bytes; equal to `done` if the server does not state the size.
        total: usize,
    },
    /// The compute device has been chosen.
    Device {
        /// Name of the device: `cpu`, `cuda:N` or `metal`.
        device: &'a str,
        /// Number of compute threads.
        threads: usize,
        /// With `--device auto`: why the GPU is not used, if this build supports one.
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<&'a str>,
    },
    /// The network of the run.
    Network {
        /// Name of the architecture.
        architecture: &'a str,
        /// Width and height of the input in pixels.
        input_size: usize,
        /// Total number of parameters, trainable and frozen.
        parameters: usize,
        /// Number of parameters trained in the first stage.
        trainable_parameters: usize,
        /// Layers with shapes and parameter counts, for `--verbose`.
        #[serde(skip)]
        table: &'a str,
    },
    /// The origin of the initial weights.
    Weights(WeightsReport<'a>),
    /// The directory and the stages of the run.
    Run {
        /// Path of the run directory.
        directory: String,
        /// Stages of the run, in order.
        stages: Vec<PlannedStage>,
    },
    /// A checkpoint of the run to resume is damaged and is ignored.
    DamagedCheckpoint {
        /// Path of the checkpoint.
        file: String,
        /// Why the checkpoint cannot be read.
        reason: &'a str,
    },
    /// The run resumes from a checkpoint.
    Resumed {
        /// Path of the checkpoint.
        file: String,
        /// Name of the stage: `transfer` or `finetune`.
        stage: &'static str,
        /// Epoch, counted from 1. The last one if the stage is complete.
        epoch: u64,
        /// Number of training batches already completed in the epoch; 0 if its train phase is
        /// complete.
        batches: usize,
    },
    /// The data set has changed since the run started, and `--allow-changed-data` was given.
    ChangedData {
        /// The differences, one per line.
        changes: &'a str,
    },
    /// The run to resume is already finished.
    AlreadyDone {
        /// Path of the run directory.
        directory: String,
    },
    /// A checkpoint has been written.
    Checkpoint {
        /// Path of the checkpoint.
        file: String,
        /// Size of the checkpoint in bytes.
        bytes: u64,
        /// Time in seconds for which training was blocked by the previous checkpoint and by copies
        /// from a GPU.
        waited: f64,
        /// Time in seconds that the background thread took to write the file.
        written: f64,
    },
    /// A signal stopped the run, which can be resumed.
    Interrupted {
        /// Name of the signal: `SIGINT` or `SIGTERM`.
        signal: String,
        /// Path of the run directory.
        directory: String,
    },
    /// A stage starts or resumes.
    StageStart {
        /// Name of the stage: `transfer` or `finetune`.
        stage: &'static str,
        /// Number of epochs, including the baseline.
        epochs: u64,
        /// Learning rates by layer prefix.
        groups: Vec<LayerRate>,
        /// Number of trainable parameters.
        trainable_parameters: usize,
        /// Number of frozen parameters.
        frozen_parameters: usize,
        /// Number of images in train.
        #[serde(skip)]
        train_images: u64,
        /// Number of images in val.
        #[serde(skip)]
        val_images: u64,
    },
    /// An epoch starts or resumes.
    EpochStart {
        /// Name of the stage.
        stage: &'static str,
        /// Epoch, counted from 1.
        epoch: u64,
        /// Number of epochs in the stage, including the baseline.
        epochs: u64,
        /// Whether this is the baseline epoch, which only validates.
        baseline: bool,
    },
    /// A batch is complete.
    Batch {
        /// Name of the stage.
        stage: &'static str,
        /// Phase of the epoch: `train` or `val`.
        phase: Phase,
        /// Epoch, counted from 1.
        epoch: u64,
        /// Batch within the phase, counted from 1.
        batch: usize,
        /// Number of images processed in the phase so far.
        images: u64,
        /// Number of images in the whole phase.
        images_total: u64,
        /// Mean loss and accuracy of the phase so far.
        #[serde(flatten)]
        score: Score,
    },
    /// The train or val phase of an epoch is complete.
    Phase {
        /// Name of the stage.
        stage: &'static str,
        /// Phase of the epoch: `train` or `val`.
        phase: Phase,
        /// Epoch, counted from 1.
        epoch: u64,
        /// Mean loss and accuracy of the phase.
        #[serde(flatten)]
        score: Score,
        /// Time in seconds since the phase started or was resumed.
        seconds: f64,
        /// Images per second in that time.
        images_per_second: f64,
    },
    /// The val accuracy is strictly higher than in all earlier epochs of the stage, or this epoch is
    /// the first.
    NewBest {
        /// Name of the stage.
        stage: &'static str,
        /// Epoch, counted from 1.
        epoch: u64,
        /// Val accuracy of this epoch, from 0 to 1.
        accuracy: f64,
    },
    /// A stage has ended and its best weights are restored.
    StageEnd {
        /// Name of the stage.
        stage: &'static str,
        /// Epoch of the best weights, counted from 1. Epoch 1 is the baseline.
        best_epoch: u64,
        /// Val accuracy of the best weights, from 0 to 1.
        best_accuracy: f64,
        /// Time in seconds since the stage started or was resumed.
        seconds: f64,
    },
    /// The run is finished and all files are written.
    Done(Finished<'a>),
}

/// The data set of a run.
#[derive(Debug, Clone, Serialize)]
pub struct DataSet<'a> {
    /// Origin of the data set: `given` (by `--data`), `photographs` (`data/hymenoptera_data`) or
    /// `sample`.
    pub source: &'static str,
    /// Path of the data set.
    pub root: String,
    /// Class names, by index.
    pub classes: &'a [String],
    /// Number of images in train.
    pub train_images: usize,
    /// Number of images in val.
    pub val_images: usize,
    /// Advice on how to use other images. `None` if the source is `given`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

/// The origin of the initial weights.
#[derive(Debug, Clone, Serialize)]
pub struct WeightsReport<'a> {
    /// Origin of the weights, such as a path or an address on the hub; `none` for random weights.
    pub source: &'a str,
    /// Number of classes that the network predicts.
    pub classes: usize,
    /// Names of the tensors loaded from the source.
    pub loaded: &'a [String],
    /// Names of the newly initialized tensors.
    pub initialized: &'a [String],
    /// Names of the head's tensors that were not loaded because they were trained for other classes.
    /// Also in `initialized`.
    pub replaced: &'a [String],
    /// Tensors whose shapes differ: name, shape in the source, shape in the network. Also in
    /// `initialized`.
    pub mismatched: &'a [(String, Vec<usize>, Vec<usize>)],
}

/// The result of a finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Finished<'a> {
    /// Path of the run directory.
    pub directory: String,
    /// Path of the model file.
    pub model: String,
    /// Names of the files in the run directory.
    pub files: &'a [&'a str],
    /// Loss and accuracy of the model on the val images.
    #[serde(flatten)]
    pub score: Score,
    /// Number of correctly classified val images.
    pub correct: u64,
    /// Number of val images.
    pub images: u64,
    /// 95 % Wilson interval for the accuracy, as fractions.
    pub interval: [f64; 2],
    /// The class with the lowest recall, of the classes that have val images.
    pub worst_class: Option<ClassRecall<'a>>,
    /// Running time of this command in seconds.
    pub seconds: f64,
}

/// A stage in the plan of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Name of the stage: `transfer` or `finetune`.
    pub stage: &'static str,
    /// Number of epochs, including the baseline.
    pub epochs: u64,
}

/// The recall of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassRecall<'a> {
    /// Name of the class.
    pub class: &'a str,
    /// Correctly classified val images of the class ÷ its val images, from 0 to 1.
    pub recall: f64,
    /// Number of val images in the class.
    pub images: u64,
}

impl Message<'_> {
    /// Converts an event of the trainer to a message that names `stage`. Returns `None` for an
    /// unknown event.
    pub fn from_event(stage: &'static str, event: &Event) -> Option<Message<'static>> {
        Some(match event {
            Event::StageStart {
                epochs,
                counts,
                groups,
                train_samples,
                val_samples,
                ..
            } => Message::StageStart {
                stage,
                epochs: epochs + 1,
                groups: groups
                    .iter()
                    .map(|group| LayerRate {
                        layers: group.pattern.clone(),
                        lr: group.lr,
                    })
                    .collect(),
                trainable_parameters: counts.trainable,
                frozen_parameters: counts.frozen,
                train_images: *train_samples as u64,
                val_images: *val_samples as u64,
            },
            Event::EpochStart {
                epoch,
                epochs,
                baseline,
                ..
            } => Message::EpochStart {
                stage,
                epoch: epoch + 1,
                epochs: epochs + 1,
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
                images: progress.samples,
                images_total: progress.samples_total,
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
                images_per_second: *samples_per_second,
            },
            Event::NewBest { epoch, accuracy } => Message::NewBest {
                stage,
                epoch: epoch + 1,
                accuracy: *accuracy,
            },
            Event::StageEnd {
                best,
                accuracy,
                seconds,
            } => Message::StageEnd {
                stage,
                best_epoch: match best {
                    Best::Baseline => 1,
                    Best::Epoch(epoch) => epoch + 1,
                },
                best_accuracy: *accuracy,
                seconds: *seconds,
            },
            _ => return None,
        })
    }
}
