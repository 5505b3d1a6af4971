//! Checkpoints: all that a run needs to go on, bit for bit, in one file of its run directory.
//!
//! `checkpoint-N.safetensors` holds as strings what the run is ([`Identity`]) and where it is ([`Progress`]), both
//! as TOML, which keeps every digit of a number; and as tensors
//!
//! - `weights/NAME`: what has trained so far, in any stage. Everything else is named by source and SHA-256 and read
//!   or drawn anew;
//! - `velocity/NAME`: the optimizer's velocities;
//! - `best/NAME`: the best weights so far, unless they are the present ones.

mod dir;
mod format;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trainer::{Params, Snapshot, Stage, StageState, pattern};

use crate::config::{Config, StageConfig};
use crate::dataset_hash::DatasetHash;
use crate::explicit_args::ExplicitArgs;
use crate::metrics::{EpochRow, Pass};
use format::CheckpointFile;
pub use writer::{CheckpointWritten, Checkpointer};

/// What a run is: the same in all of its checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of the file that the weights come from; nothing for random ones.
    pub weights_sha256: Option<String>,
    /// The arguments that were typed.
    pub arguments: ExplicitArgs,
    /// What they mean.
    pub config: Config,
    /// The pictures.
    pub data: DatasetHash,
}

#[cfg(test)]
impl Identity {
    /// One for tests.
    pub(crate) fn example(config: Config) -> Self {
        Self {
            weights_sha256: None,
            arguments: ExplicitArgs::default(),
            config,
            data: DatasetHash::default(),
        }
    }
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which stage it is in, by its index.
    pub stage: usize,
    /// Where in the stage.
    pub state: StageState,
    /// The training pass of the epoch that is being validated.
    pub training: Option<Pass>,
    /// The epochs that are done.
    #[serde(default)]
    pub rows: Vec<EpochRow>,
}

impl Progress {
    /// The beginning of stage `stage`.
    fn new(stage: usize, state: StageState) -> Self {
        Self {
            stage,
            state,
            training: None,
            rows: Vec::new(),
        }
    }
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its file.
    pub path: PathBuf,
    /// What the run is.
    pub identity: Identity,
    /// Where it is.
    pub progress: Progress,
    /// Weights by name.
    pub weights: BTreeMap<String, Tensor>,
    /// Velocities by name.
    pub velocities: BTreeMap<String, Tensor>,
    /// The best weights by name; empty where they are the present ones.
    pub best: BTreeMap<String, Tensor>,
    number: u64,
}

const IDENTITY: &str = "run";
const PROGRESS: &str = "progress";
const WEIGHTS: &str = "weights/";
const VELOCITY: &str = "velocity/";
const BEST: &str = "best/";

impl Checkpoint {
    /// The newest whole checkpoint in a run directory, and those after it that are damaged, with the reason.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn newest(folder: &Path) -> anyhow::Result<(Option<Self>, Vec<DamagedCheckpoint>)> {
        let mut damaged = Vec::new();
        for number in dir::numbers(folder)?.into_iter().rev() {
            match Self::read(folder, number) {
                Ok(checkpoint) => return Ok((Some(checkpoint), damaged)),
                Err(error) => damaged.push(DamagedCheckpoint {
                    path: dir::path(folder, number),
                    reason: format!("{error:#}"),
                }),
            }
        }
        Ok((None, damaged))
    }

    fn read(folder: &Path, number: u64) -> anyhow::Result<Self> {
        let path = dir::path(folder, number);
        let CheckpointFile { strings, tensors } = CheckpointFile::read(&path)?;
        let mut parts = [WEIGHTS, VELOCITY, BEST].map(|prefix| (prefix, BTreeMap::new()));
        for (name, tensor) in tensors {
            let part = parts
                .iter_mut()
                .find_map(|(prefix, part)| Some((name.strip_prefix(*prefix)?, part)));
            let (name, part) = part.with_context(|| format!("it holds a strange `{name}`"))?;
            part.insert(name.to_string(), tensor);
        }
        let [weights, velocities, best] = parts.map(|(_, part)| part);
        Ok(Self {
            path,
            identity: parse(&strings, IDENTITY)?,
            progress: parse(&strings, PROGRESS)?,
            weights,
            velocities,
            best,
            number,
        })
    }
}

/// A checkpoint that cannot be used.
#[derive(Debug)]
pub struct DamagedCheckpoint {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a checkpoint at this moment holds, whatever training changes while it is written.
fn contents(
    identity: &str,
    progress: &Progress,
    stages: &[StageConfig],
    params: &Params,
    stage: &Stage,
) -> anyhow::Result<CheckpointFile<Snapshot>> {
    let text = toml::to_string(progress).context("cannot write the progress as TOML")?;
    let strings = [
        (IDENTITY.to_string(), identity.to_string()),
        (PROGRESS.to_string(), text),
    ]
    .into();
    let mut tensors = BTreeMap::new();
    let mut add = |prefix: &str, name: &str, held: Snapshot| {
        tensors.insert(format!("{prefix}{name}"), held);
    };
    // Before its first step a stage has changed nothing.
    let trained = progress.stage + usize::from(progress.state.step > 0);
    let changed = |name: &str| {
        let mut groups = stages[..trained].iter().flat_map(|stage| &stage.groups);
        groups.any(|group| pattern::covers(&group.layers, name))
    };
    for (name, held) in params.snapshot(changed)? {
        add(WEIGHTS, &name, held);
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
        .with_context(|| format!("it lacks `{key}`"))?;
    toml::from_str(text)
        .with_context(|| format!("its `{key}` was written by another version of waggle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer::{BestState, EpochMetrics, Phase};

    #[test]
    fn progress_keeps_every_bit_of_a_number() {
        // Numbers whose shortest decimal form is long; a parser that rounds twice gets some of them wrong.
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
                metrics: EpochMetrics {
                    loss_sum: number,
                    correct: 3,
                    samples: 7,
                },
                best,
            };
            let progress = Progress::new(1, state);
            let text = toml::to_string(&progress).unwrap();
            assert_eq!(toml::from_str::<Progress>(&text).unwrap(), progress);
        }
    }
}
