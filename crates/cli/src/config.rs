//! What a run does, resolved: written to `config.toml` before the first step, read back by `evaluate`.
//!
//! Arguments say what is wanted; data and weights decide the rest (which classes, which layers are fresh).
//! Here both meet, so that nothing is decided later, in the middle of training.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use trainer::pattern;
use vgg::Precision;

use crate::args::TrainArgs;
use crate::bad_pictures::Skipped;
use crate::values::{LayerRate, OnBad, StageChoice};

/// The version of candle in the workspace's lock file (a test compares the two).
pub const CANDLE_VERSION: &str = "0.11.1";

/// The longest `config.toml` that is believed: ten thousand pictures that were skipped take one MiB.
const LONGEST_FILE: u64 = 16 << 20;

/// Everything that decides the result of a run, and on what machine it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Programs and libraries.
    pub versions: Versions,
    /// Pictures.
    pub data: DataConfig,
    /// Network and initial weights.
    pub network: NetworkConfig,
    /// What all stages share.
    pub training: TrainingConfig,
    /// How it was computed; cannot change the result beyond rounding.
    pub machine: MachineConfig,
    /// The stages in order.
    pub stages: Vec<StageConfig>,
}

/// Programs and libraries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub waggle: String,
    /// The tensor library.
    pub candle: String,
}

/// Pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// The folder, as an absolute path.
    pub root: String,
    /// `given`, `photographs` or `sample`.
    pub source: String,
    /// Class names, by index.
    pub classes: Vec<String>,
    /// Pictures in train.
    pub train_pictures: usize,
    /// Pictures in val.
    pub val_pictures: usize,
    /// Photographs are not turned upright.
    pub ignore_exif: bool,
    /// What was to be done about pictures that cannot be decoded.
    #[serde(default)]
    pub on_bad: OnBad,
    /// The pictures that were left out for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// Network and initial weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// `vgg16`, or `vgg` for a pattern of layers without a name.
    pub architecture: String,
    /// Side of the square input in pixels.
    pub input_size: usize,
    /// `hub`, `none`, `sample backbone` or a path.
    pub weights: String,
    /// Layers that the weights left at random values.
    pub fresh_layers: Vec<String>,
}

/// What all stages share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Momentum of SGD.
    pub momentum: f64,
}

/// How it was computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// `cpu`, `cuda:N` or `metal`.
    pub device: String,
    /// `f32` or `bf16`; runs of versions without it were f32.
    #[serde(default = "f32_precision")]
    pub precision: String,
    /// The instruction set of the kernels on the CPU.
    #[serde(default)]
    pub kernels: String,
    /// Threads that compute.
    pub threads: usize,
    /// Threads that read pictures.
    pub workers: usize,
    /// Bytes for decoded pictures.
    pub cache_images: u64,
}

fn f32_precision() -> String {
    Precision::F32.to_string()
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// `transfer` or `finetune`.
    pub name: StageName,
    /// Epochs, the one that only validates included.
    pub epochs: u64,
    /// Which layers train, and how fast. A layer under no name is frozen.
    pub groups: Vec<LayerRate>,
}

/// The stages that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// What the weights left fresh trains.
    Transfer,
    /// Everything trains.
    Finetune,
}

impl StageName {
    /// As in `metrics.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Finetune => "finetune",
        }
    }
}

impl Config {
    /// The file's name in the run directory.
    pub const FILE: &str = "config.toml";

    /// One for tests.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            versions: Versions {
                waggle: "0.1.0".to_string(),
                candle: CANDLE_VERSION.to_string(),
            },
            data: DataConfig {
                root: "/data".to_string(),
                source: "given".to_string(),
                classes: vec!["ants".to_string(), "bees \"quoted\"".to_string()],
                train_pictures: 244,
                val_pictures: 153,
                ignore_exif: false,
                on_bad: OnBad::Skip,
                skipped: vec![Skipped {
                    path: "train/ants/7.jpg".to_string(),
                    reason: "it has no pixels".to_string(),
                }],
            },
            network: NetworkConfig {
                architecture: "vgg16".to_string(),
                input_size: 224,
                weights: "hub".to_string(),
                fresh_layers: vec!["classifier.6".to_string()],
            },
            training: TrainingConfig {
                seed: 1234,
                batch_size: 32,
                momentum: 0.9,
            },
            machine: MachineConfig {
                device: "cpu".to_string(),
                precision: "f32".to_string(),
                kernels: "avx2".to_string(),
                threads: 2,
                workers: 4,
                cache_images: 1 << 30,
            },
            stages: vec![
                StageConfig {
                    name: StageName::Transfer,
                    epochs: 25,
                    groups: vec![LayerRate {
                        layers: "features".to_string(),
                        rate: 1e-3,
                    }],
                };
                2
            ],
        }
    }

    /// As a file, with a comment that says what it is.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let body =
            toml::to_string_pretty(self).context("cannot write the configuration as TOML")?;
        Ok(format!(
            "# What this run did: every setting after defaults, data and weights were resolved.\n\n{body}"
        ))
    }

    /// Reads the file of a run.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not a configuration.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut text = String::new();
        // One byte more than is believed tells a file that is too long.
        let read =
            File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        if text.len() as u64 > LONGEST_FILE {
            bail!(
                "{} is not the configuration of a run: it has more than {} MiB",
                path.display(),
                LONGEST_FILE >> 20
            );
        }
        toml::from_str(&text)
            .with_context(|| format!("{} is not the configuration of a run", path.display()))
    }
}

/// The stages that `args` ask for, for a network of `layers` of which `fresh` were left at random values.
///
/// Stage 1 trains what is fresh: with full ImageNet weights that is the last layer (its size is the number
/// of classes), with weights of the convolutions alone it is the whole classifier, and without weights it is
/// everything. When the weights fit whole, nothing is fresh and the last layer trains. `--transfer-layers`
/// overrides all of this.
///
/// # Errors
///
/// A name that fits no layer.
pub fn stages(
    args: &TrainArgs,
    layers: &[String],
    fresh: &[String],
) -> anyhow::Result<Vec<StageConfig>> {
    let mut stages = Vec::new();
    if args.stage != StageChoice::Finetune {
        let names = match &args.transfer_layers {
            Some(names) => {
                names
                    .iter()
                    .try_for_each(|name| check(name, layers, "--transfer-layers"))?;
                names.clone()
            }
            None if fresh.is_empty() => layers.last().cloned().into_iter().collect(),
            None => summarized(fresh, layers),
        };
        let rate = args.lr.get();
        stages.push(StageConfig {
            name: StageName::Transfer,
            epochs: args.transfer_epochs.get() as u64,
            groups: names
                .into_iter()
                .map(|layers| LayerRate { layers, rate })
                .collect(),
        });
    }
    if args.stage != StageChoice::Transfer {
        args.finetune_lr
            .iter()
            .try_for_each(|group| check(&group.layers, layers, "--finetune-lr"))?;
        stages.push(StageConfig {
            name: StageName::Finetune,
            epochs: args.finetune_epochs.get() as u64,
            groups: args.finetune_lr.iter().cloned().collect(),
        });
    }
    Ok(stages)
}

fn check(name: &str, layers: &[String], flag: &str) -> anyhow::Result<()> {
    if !layers.iter().any(|layer| pattern::covers(name, layer)) {
        bail!(
            "{flag}: no layer is called `{name}`; the layers are {}",
            layers.join(", ")
        );
    }
    Ok(())
}

/// `classifier` instead of each of its layers, where all of them are in `chosen`.
fn summarized(chosen: &[String], layers: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for layer in layers.iter().filter(|layer| chosen.contains(layer)) {
        let part = layer.split('.').next().unwrap_or(layer);
        let whole = layers
            .iter()
            .filter(|other| pattern::covers(part, other))
            .all(|other| chosen.contains(other));
        let name = if whole { part } else { layer };
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_string());
        }
    }
    names
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
