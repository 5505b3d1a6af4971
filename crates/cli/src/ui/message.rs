//! Messages of `waggle train`: what the user is shown of a run.
//!
//! With `--json`, each [`Message`] is one line; its field names are stable. Paths are written as
//! [`dataset::path_text`] describes.

use dataset::image_folder::KindCount;
use serde::Serialize;
use trainer::{Event, Phase};
use vgg::Report;

use super::stage_event::StageEvent;
use super::text::list;
use crate::calibration::Calibration;
use crate::config::{Skipped, StageName};
use crate::error::Diagnostic;
use crate::metrics::Score;
use crate::run_dir::Difference;

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
    /// Both splits have the images of a folder, through a link.
    SharedFolder {
        /// Path of the folder in train.
        train: String,
        /// Path of the folder in val.
        val: String,
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
    /// A download waits for another process, or is repeated after an error.
    Note {
        /// The line to show: the event and its reason.
        text: String,
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
        /// Number of parameters trained in the first stage, or in the stage from which a run resumes.
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
        /// The path that was requested, if it existed already and a number was appended to it.
        #[serde(skip_serializing_if = "Option::is_none")]
        existing: Option<String>,
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
    /// A file of another kind has the name of a checkpoint of the run to resume. It is ignored.
    NotCheckpoint {
        /// Path of the file.
        file: String,
        /// The kind of the file, such as `a model file`.
        kind: &'a str,
    },
    /// The directory of the run to resume contains files that are not part of the run. They are
    /// ignored.
    OtherFiles {
        /// Their names.
        files: &'a [String],
    },
    /// A file of the run to resume has been written again from the checkpoint.
    Restored {
        /// Path of the file.
        file: String,
        /// The difference between the file and the checkpoint.
        difference: Difference,
    },
    /// The run resumes from a checkpoint.
    Resumed {
        /// Path of the checkpoint.
        file: String,
        /// The stage.
        stage: StageName,
        /// Epoch, counted from 1. The last one if the stage is complete.
        epoch: u64,
        /// Phase of the epoch.
        #[serde(skip)]
        phase: Phase,
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
    /// The run is finished and all files are written.
    Done(Finished<'a>),
    /// An event of a stage.
    #[serde(untagged)]
    Stage(StageEvent<'a>),
}

impl Message<'_> {
    /// The warning in this message, if any. Text output prints it on standard error, even with
    /// `--quiet`. In JSON, the message is the warning.
    pub fn warning(&self) -> Option<Diagnostic> {
        let warning = match self {
            Self::ClassesWithoutVal { classes } => Diagnostic::new(format!(
                "no validation images for {}; val metrics exclude them",
                list(classes)
            )),
            Self::SharedFolder { train, val } => Diagnostic::new(format!(
                "`{val}` and `{train}` are the same folder; val metrics include train images"
            )),
            Self::SkippedImage(skipped) => Diagnostic::new(skipped.to_string()),
            Self::Device { fallback, .. } => {
                Diagnostic::new(format!("computing on the CPU: {}", (*fallback)?))
            }
            Self::DamagedCheckpoint { file, reason } => {
                Diagnostic::new(format!("ignoring the damaged checkpoint {file}: {reason}"))
            }
            Self::NotCheckpoint { file, kind } => Diagnostic::new(format!(
                "ignoring {file}, which is {kind}, not a checkpoint"
            )),
            Self::Restored { file, difference } => match difference {
                Difference::Missing => Diagnostic::new(format!("{file} was missing; restored it")),
                Difference::Changed => Diagnostic::new(format!(
                    "{file} was not as the run had written it; restored it"
                ))
                .help("changes to it have no effect; for other settings, start a new run"),
            },
            Self::ChangedData { changes } => {
                Diagnostic::new("the images have changed since the run started")
                    .items(changes.lines())
            }
            Self::Stage(StageEvent {
                stage,
                event: Event::StageStart { epochs: 0, .. },
            }) => {
                let stage = stage.as_str();
                Diagnostic::new(format!(
                    "stage {stage} does not train: its only epoch is the baseline"
                ))
                .help(format!("pass `--{stage}-epochs 2` to train for one epoch"))
            }
            _ => return None,
        };
        Some(warning)
    }
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
    /// Files in train and val that are not used, by kind, without hidden ones.
    pub unused: &'a [KindCount],
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
    /// Which tensors were loaded from the source.
    #[serde(flatten)]
    pub report: &'a Report,
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
    /// The calibration of the probabilities. `None` with `--no-calibration`.
    pub calibration: Option<Calibration>,
    /// Running time of this command in seconds.
    pub seconds: f64,
}

/// A stage in the plan of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStage {
    /// The stage.
    pub stage: StageName,
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
