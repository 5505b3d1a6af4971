//! Checkpoints: files in the run directory that each hold the training state from which a run
//! resumes bit-identically.
//!
//! The metadata of `checkpoint-N.safetensors` holds the format version, the run's [`Identity`] and
//! its [`RunProgress`]. The latter two are TOML, which represents every `f64` exactly. Tensors:
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

use anyhow::{Context, bail};
use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trainer::{Params, Snapshot, Stage, StageState, pattern};

use crate::config::{Config, StageConfig};
use crate::dataset_hash::DatasetHash;
use crate::error::Diagnostic;
use crate::metrics::{EpochRow, Pass};
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
    #[serde(default)]
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

/// Version of the checkpoint format. Increase it if keys, TOML fields or tensor names change.
const FORMAT: &str = "3";

/// Metadata key of the format version. Version 1 files have no such key.
const FORMAT_KEY: &str = "format";
const IDENTITY: &str = "run";
const PROGRESS: &str = "progress";
const WEIGHTS: &str = "weights/";
const VELOCITY: &str = "velocity/";
const BEST: &str = "best/";

impl Checkpoint {
    /// The newest intact checkpoint of a run directory, and the damaged checkpoints that are newer.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read, or if it has an intact checkpoint of
    /// another format version that is newer than all readable ones.
    pub fn newest(folder: &Path) -> anyhow::Result<(Option<Self>, Vec<DamagedCheckpoint>)> {
        let mut damaged = Vec::new();
        for number in dir::numbers(folder)?.into_iter().rev() {
            let path = dir::path(folder, number);
            let checkpoint = match CheckpointFile::read(&path) {
                Ok(file) => {
                    check_format(&path, &file.strings)?;
                    Self::parse(&path, number, file)
                }
                Err(error) => Err(error),
            };
            match checkpoint {
                Ok(checkpoint) => return Ok((Some(checkpoint), damaged)),
                Err(error) => damaged.push(DamagedCheckpoint {
                    path,
                    reason: format!("{error:#}"),
                }),
            }
        }
        Ok((None, damaged))
    }

    fn parse(path: &Path, number: u64, file: CheckpointFile<Tensor>) -> anyhow::Result<Self> {
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
        Ok(Self {
            path: path.to_path_buf(),
            identity: parse(&strings, IDENTITY)?,
            progress: parse(&strings, PROGRESS)?,
            weights,
            velocities,
            best,
            number,
        })
    }
}

/// A checkpoint that cannot be read.
#[derive(Debug)]
pub struct DamagedCheckpoint {
    /// Path of the file.
    pub path: PathBuf,
    /// Why the file cannot be read.
    pub reason: String,
}

/// Snapshots the training state for a checkpoint. Training may continue while the file is written.
fn snapshot(
    identity: &str,
    progress: &RunProgress,
    stages: &[StageConfig],
    params: &Params,
    stage: &Stage,
) -> anyhow::Result<CheckpointFile<Snapshot>> {
    let text = toml::to_string(progress).context("cannot write the progress as TOML")?;
    let strings = [
        (FORMAT_KEY.to_string(), FORMAT.to_string()),
        (IDENTITY.to_string(), identity.to_string()),
        (PROGRESS.to_string(), text),
    ]
    .into();
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

/// Returns an error if the checkpoint's format version is not [`FORMAT`].
fn check_format(path: &Path, strings: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let format = strings.get(FORMAT_KEY).map_or("1", String::as_str);
    if format == FORMAT {
        return Ok(());
    }
    bail!(
        Diagnostic::new(format!(
            "{} has checkpoint format {format}; this version of waggle reads format {FORMAT}",
            path.display()
        ))
        .help("resume the run with the version of waggle that wrote it (see its `config.toml`)")
    )
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
