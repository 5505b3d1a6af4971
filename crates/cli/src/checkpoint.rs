//! Checkpoints: files in the run directory that each hold the training state from which a run
//! resumes bit-identically.
//!
//! The metadata of `checkpoint-N.safetensors` holds the format version, the version of waggle, the id
//! of the run, its [`Identity`] and its [`RunProgress`]. The latter two are TOML, which represents
//! every `f64` exactly. The first three stay in every future format. Tensors:
//!
//! - `weights/NAME`: parameters trained so far, in any stage. The others are read from the weights
//!   file, which the identity names with its SHA-256, or initialized again from the seed;
//! - `velocity/NAME`: velocities of the optimizer;
//! - `best/NAME`: the best weights so far, if they differ from the current ones.
//!
//! Unlike weights files, checkpoints may contain non-finite values. Their checksum detects
//! corruption, and a run that has diverged fails at the next batch with the same error as without
//! the interruption.

mod dir;
mod format;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trainer::{Params, Snapshot, Stage, StageState, pattern};

use crate::config::{Config, StageConfig};
use crate::dataset_hash::DatasetHash;
use crate::error::Diagnostic;
use crate::files::open_regular;
use crate::metrics::{EpochRow, Pass};
use crate::run_dir::{CHECKPOINT_FORMAT, Marker, RunDir};
use format::CheckpointFile;
pub use writer::{CheckpointWritten, Checkpointer};

/// The configuration of a run and the hashes of its images. A resumed run starts from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The resolved configuration.
    pub config: Config,
    /// SHA-256 of each image in the data set.
    pub data: DatasetHash,
}

#[cfg(test)]
impl Identity {
    /// An example identity with the configuration `config`, for unit tests.
    pub(crate) fn example(config: Config) -> Self {
        Self {
            config,
            data: DatasetHash::default(),
        }
    }
}

/// How far a run has progressed, and its results so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// Index of the current stage, counted from 0.
    pub stage: usize,
    /// Position within the stage, such as the epoch and the step.
    pub state: StageState,
    /// Result of the current epoch's train phase. Set only while the epoch is being validated.
    pub training: Option<Pass>,
    /// Metrics of the finished epochs.
    pub rows: Vec<EpochRow>,
}

/// A checkpoint that has been read into memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// Path of the checkpoint file.
    pub path: PathBuf,
    /// Inputs of the run that wrote the checkpoint.
    pub identity: Identity,
    /// How far the run had progressed.
    pub progress: RunProgress,
    /// Parameters trained so far, by name.
    pub weights: BTreeMap<String, Tensor>,
    /// SGD velocities by parameter name.
    pub velocities: BTreeMap<String, Tensor>,
    /// The best weights by name; empty if they equal the current ones.
    pub best: BTreeMap<String, Tensor>,
    number: u64,
}

/// Metadata key of the format version, a decimal number.
const FORMAT_KEY: &str = "format";
/// Metadata key of the version of waggle that wrote the checkpoint.
const VERSION: &str = "waggle";
/// Metadata key of the id of the run.
const ID: &str = "id";
const IDENTITY: &str = "run";
const PROGRESS: &str = "progress";
const WEIGHTS: &str = "weights/";
const VELOCITY: &str = "velocity/";
const BEST: &str = "best/";

impl Checkpoint {
    /// The newest intact checkpoint of a run, and the files that are newer by their names but damaged or
    /// not checkpoints.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read. Also returns an error if a file that is newer
    /// than the newest intact checkpoint cannot be opened, or is intact but has another format or
    /// belongs to another run: resuming from an older checkpoint could lose progress. A number that
    /// leaves none for later checkpoints is an error too.
    pub fn newest(run: &RunDir) -> anyhow::Result<(Option<Self>, Vec<IgnoredCheckpoint>)> {
        let mut ignored = Vec::new();
        let numbers = dir::numbers(run.path())?;
        for &number in numbers.iter().rev() {
            let path = dir::path(run.path(), number);
            match Self::read(path.clone(), number, run.id())? {
                Ok(checkpoint) => {
                    dir::check_number(run.path(), number, &numbers)?;
                    return Ok((Some(checkpoint), ignored));
                }
                Err(fault) => ignored.push(IgnoredCheckpoint { path, fault }),
            }
        }
        Ok((None, ignored))
    }

    /// Reads a checkpoint of the run with the id `run`. The inner error says why it cannot be used.
    fn read(path: PathBuf, number: u64, run: &str) -> anyhow::Result<Result<Self, Fault>> {
        let help = "move the checkpoint out of the run directory to resume from an older one";
        let name = path.display();
        let opened = open_regular(&path).map_err(|error| {
            let error = Diagnostic::new(format!("cannot read {name}")).caused_by(error);
            error.help(format!("make it readable, or {help}"))
        });
        let opened = opened?;
        let unknown = |error: anyhow::Error| {
            let message = format!("{name} is intact, but this version of waggle cannot read it");
            Diagnostic::new(message).help(help).caused_by(error)
        };
        let file = match CheckpointFile::read(&opened) {
            Ok(file) => file,
            Err(error) if format::is_intact(&opened).unwrap_or(false) => bail!(unknown(error)),
            Err(error) => {
                return Ok(Err(match vgg::read_metadata(&path) {
                    Ok(Some(_)) | Err(vgg::Error::Metadata { .. }) => {
                        Fault::NotCheckpoint("a model file")
                    }
                    Ok(None) => Fault::NotCheckpoint("a weights file"),
                    Err(_) => Fault::Damaged(format!("{error:#}")),
                }));
            }
        };
        let string = |key: &str| file.strings.get(key).map_or("", String::as_str);
        let (format, version) = (string(FORMAT_KEY), string(VERSION));
        if format != CHECKPOINT_FORMAT.to_string() {
            bail!(
                Diagnostic::new(format!(
                    "{name} was written by waggle {version} with checkpoint format {format}; this \
                     version of waggle reads format {CHECKPOINT_FORMAT}"
                ))
                .help(format!("resume the run with waggle {version}, or {help}"))
            );
        }
        if string(ID) != run {
            bail!(Diagnostic::new(format!("{name} is a checkpoint of another run")).help(help));
        }
        Ok(Ok(Self::parse(path.clone(), number, file).map_err(unknown)?))
    }

    fn parse(path: PathBuf, number: u64, file: CheckpointFile<Tensor>) -> anyhow::Result<Self> {
        let CheckpointFile { strings, tensors } = file;
        let mut parts = [WEIGHTS, VELOCITY, BEST].map(|prefix| (prefix, BTreeMap::new()));
        for (name, tensor) in tensors {
            let part = parts
                .iter_mut()
                .find_map(|(prefix, part)| Some((name.strip_prefix(*prefix)?, part)));
            let (name, part) = part.with_context(|| format!("unknown tensor `{name}`"))?;
            part.insert(name.to_string(), tensor);
        }
        let [weights, velocities, best] = parts.map(|(_, part)| part);
        let identity: Identity = parse(&strings, IDENTITY)?;
        let progress: RunProgress = parse(&strings, PROGRESS)?;
        ensure!(
            progress.stage < identity.config.stages.len(),
            "the run has no stage number {}",
            progress.stage
        );
        Ok(Self {
            path,
            identity,
            progress,
            weights,
            velocities,
            best,
            number,
        })
    }
}

/// A file with the name of a checkpoint from which no run can resume.
#[derive(Debug)]
pub struct IgnoredCheckpoint {
    /// Path of the file.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub fault: Fault,
}

/// Why a file with the name of a checkpoint cannot be used.
#[derive(Debug)]
pub enum Fault {
    /// The file is damaged, for this reason.
    Damaged(String),
    /// The file is of this kind, such as `a model file`.
    NotCheckpoint(&'static str),
}

/// The paths of the checkpoints of a run. Other files that have the name of a checkpoint do not count,
/// nor do checkpoints whose header is damaged.
///
/// # Errors
///
/// Returns an error if the directory cannot be read.
pub fn paths(run: &RunDir) -> anyhow::Result<Vec<PathBuf>> {
    dir::paths(run.path(), run.id())
}

/// The marker of the run that wrote the intact checkpoints in `folder`, as of an unfinished run. `None`
/// if there are no such checkpoints. Files that cannot be opened are ignored.
///
/// # Errors
///
/// Returns an error if the directory cannot be read, or if the checkpoints belong to several runs.
pub fn lost_marker(folder: &Path) -> anyhow::Result<Option<Marker>> {
    let mut markers: Vec<(String, Marker)> = Vec::new();
    for number in dir::numbers(folder)? {
        let path = dir::path(folder, number);
        let marker = open_regular(&path).ok().and_then(|file| {
            let strings = format::read_strings(&file).ok()?;
            let marker = Marker {
                id: strings.get(ID)?.clone(),
                waggle: strings.get(VERSION)?.clone(),
                checkpoint_format: strings.get(FORMAT_KEY)?.parse().ok()?,
                finished: false,
            };
            let is_intact = format::is_intact(&file).unwrap_or(false);
            (is_intact && marker.has_valid_id()).then_some(marker)
        });
        markers.extend(marker.map(|marker| (path.display().to_string(), marker)));
    }
    let of_run = |(path, marker): &(String, Marker)| format!("{path}: run {}", marker.id);
    if markers.windows(2).any(|pair| pair[0].1.id != pair[1].1.id) {
        let (folder, file) = (folder.display(), Marker::FILE);
        let message =
            format!("{folder} has no valid {file}, and its checkpoints are of several runs");
        let help = "move the checkpoints of the other runs out of the directory";
        bail!(
            Diagnostic::new(message)
                .items(markers.iter().map(of_run))
                .help(help)
        );
    }
    Ok(markers.pop().map(|(_, marker)| marker))
}

/// Removes the checkpoints of a run that is finished.
///
/// # Errors
///
/// Returns an error if the directory cannot be read, or if a file cannot be removed.
pub fn remove_all(run: &RunDir) -> anyhow::Result<()> {
    dir::remove(run.path(), run.id(), None)
}

/// The metadata strings that every format has, for a checkpoint of the run with the id `run`.
fn head(run: &str) -> BTreeMap<String, String> {
    let strings = [
        (FORMAT_KEY, &CHECKPOINT_FORMAT.to_string()[..]),
        (VERSION, env!("CARGO_PKG_VERSION")),
        (ID, run),
    ];
    let owned = |(key, value): (&str, &str)| (key.to_string(), value.to_string());
    strings.into_iter().map(owned).collect()
}

/// Whether metadata strings are those of a checkpoint of the run with the id `run`.
fn is_of_run(strings: &BTreeMap<String, String>, run: &str) -> bool {
    let is = |key: &str, value: &str| strings.get(key).is_some_and(|text| text == value);
    is(FORMAT_KEY, &CHECKPOINT_FORMAT.to_string()) && is(ID, run)
}

/// Snapshots the training state for a checkpoint. Training may continue while the file is written.
fn snapshot(
    run: &str,
    identity: &str,
    progress: &RunProgress,
    stages: &[StageConfig],
    params: &Params,
    stage: &Stage,
) -> anyhow::Result<CheckpointFile<Snapshot>> {
    let text = toml::to_string(progress).context("cannot write the progress as TOML")?;
    let mut strings = head(run);
    strings.insert(IDENTITY.to_string(), identity.to_string());
    strings.insert(PROGRESS.to_string(), text);
    let mut tensors = BTreeMap::new();
    let mut add = |prefix: &str, name: &str, tensor: Snapshot| {
        tensors.insert(format!("{prefix}{name}"), tensor);
    };
    // A stage changes no parameter before its first step.
    let trained = progress.stage + usize::from(progress.state.step > 0);
    let changed = |name: &str| {
        let mut groups = stages[..trained].iter().flat_map(|stage| &stage.groups);
        groups.any(|group| pattern::covers(&group.layers, name))
    };
    for (name, weight) in params.snapshot(changed)? {
        add(WEIGHTS, &name, weight);
    }
    for (name, velocity) in stage.sgd().snapshot_velocities()? {
        add(VELOCITY, &name, velocity);
    }
    if let Some(best) = stage.best()
        && !progress.state.best_is_current()
    {
        for (name, tensor) in best.weights.tensors() {
            add(BEST, name, Snapshot::new(tensor)?);
        }
    }
    Ok(CheckpointFile { strings, tensors })
}

fn parse<T: DeserializeOwned>(strings: &BTreeMap<String, String>, key: &str) -> anyhow::Result<T> {
    let text = strings
        .get(key)
        .with_context(|| format!("no `{key}` in its metadata"))?;
    toml::from_str(text).with_context(|| format!("cannot parse `{key}` of its metadata"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer::{BestState, EpochMetrics, Phase};

    #[test]
    fn progress_survives_toml_bit_for_bit() {
        // Numbers with long decimal representations. A parser that rounds twice would misread some of
        // them.
        let mut bits = 0x3ff0_0000_0000_0001u64;
        for _ in 0..2000 {
            bits = bits
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let number = f64::from_bits(bits >> 2 | 1 << 61);
            let best = Some(BestState {
                epoch: 3,
                accuracy: 1.0 / number,
                step: 17,
            });
            let state = StageState {
                epoch: 4,
                phase: Phase::Val,
                batch: 5,
                step: 22,
                last_epoch: None,
                metrics: EpochMetrics {
                    loss_sum: number,
                    correct: 3,
                    samples: 7,
                },
                best,
            };
            let progress = RunProgress {
                stage: 1,
                state,
                training: None,
                rows: Vec::new(),
            };
            let text = toml::to_string(&progress).unwrap();
            assert_eq!(toml::from_str::<RunProgress>(&text).unwrap(), progress);
        }
    }
}
