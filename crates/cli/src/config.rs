//! The resolved configuration of a run.
//!
//! `crate::plan` resolves it before training starts, from the arguments, the data (classes) and
//! the weights (newly initialized layers). It is written to `config.toml` and to every checkpoint.
//! A resumed run starts from the configuration in its checkpoint.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};
use dataset::DecodeOptions;
use serde::{Deserialize, Serialize};

use crate::args::types::{LayerRate, OnBad, WeightsSource};
use crate::decode_limits::decode_options;
use crate::error::Diagnostic;
use crate::files::read_text;

/// The version of candle in `Cargo.lock` (a test compares the two).
pub const CANDLE_VERSION: &str = "0.11.1";

/// Size limit of `config.toml` in bytes. Ten thousand skipped images take one MiB.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// Everything that determines the result of a run, apart from the contents of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Versions of waggle and candle that ran the training.
    pub versions: Versions,
    /// The data set and its classes.
    pub data: DataConfig,
    /// Network and initial weights.
    pub network: NetworkConfig,
    /// Settings of all stages.
    pub training: TrainingConfig,
    /// Machine and execution settings. They change the result by rounding only.
    pub machine: MachineConfig,
    /// The stages, in order.
    pub stages: Vec<StageConfig>,
}

/// Versions of waggle and candle that ran the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// Version of this program.
    pub waggle: String,
    /// Version of candle.
    pub candle: String,
}

impl Versions {
    /// The versions of this program.
    pub fn current() -> Self {
        Self {
            waggle: env!("CARGO_PKG_VERSION").to_string(),
            candle: CANDLE_VERSION.to_string(),
        }
    }
}

/// The data set of a run: location, classes and image counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// Absolute path of the data set, as [`dataset::path_text`] writes paths.
    pub root: String,
    /// Origin of the data set: `given` (by `--data`), `photographs` or `sample`.
    pub source: String,
    /// Class names, by index.
    pub classes: Vec<String>,
    /// Number of images in train.
    pub train_images: usize,
    /// Number of images in val.
    pub val_images: usize,
    /// Whether the EXIF orientation is ignored.
    pub ignore_exif: bool,
    /// What to do if images cannot be decoded.
    pub on_bad: OnBad,
    /// Images that were skipped because they cannot be decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// An image that was left out of the data set because it cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Path relative to the data folder, with forward slashes, as [`dataset::path_text`] writes paths.
    pub path: String,
    /// Why the image cannot be decoded.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped {}: {}", self.path, self.reason)
    }
}

/// Network and initial weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Name such as `vgg16`, or `slim_vgg16` for the built-in backbone.
    pub architecture: String,
    /// Width and height of the input in pixels.
    pub input_size: usize,
    /// Source of the weights. A path is absolute.
    pub weights: WeightsSource,
    /// SHA-256 of the weights file. `None` for random weights.
    pub weights_sha256: Option<String>,
    /// Names of the newly initialized layers.
    pub initialized_layers: Vec<String>,
}

/// Settings of all stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Random seed for initialization, shuffling, augmentation and dropout.
    pub seed: u64,
    /// Images per batch, in training and validation.
    pub batch_size: usize,
    /// SGD momentum.
    pub momentum: f64,
    /// Whether a temperature is fitted to the val images after training. Files without this field come
    /// from runs without calibration.
    #[serde(default)]
    pub calibration: bool,
}

/// Machine and execution settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Compute device: `cpu`, `cuda:N` or `metal`.
    pub device: String,
    /// Compute precision, `f32` or `bf16`.
    pub precision: String,
    /// Instruction set of the CPU kernels.
    pub kernels: String,
    /// Number of compute threads.
    pub threads: usize,
    /// Number of threads that decode images.
    pub workers: usize,
    /// Size limit in bytes of the cache for decoded images.
    pub cache_images: u64,
    /// Largest image to decode, in pixels. Files without this field come from runs with the default.
    #[serde(default = "default_max_pixels")]
    pub max_pixels: usize,
}

fn default_max_pixels() -> usize {
    DecodeOptions::default().max_pixels
}

/// One stage of training: its length and the layers it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Name of the stage, `transfer` or `finetune`.
    pub name: StageName,
    /// Number of epochs, including the baseline.
    pub epochs: u64,
    /// Learning rates by layer prefix. Unmatched layers are frozen.
    pub groups: Vec<LayerRate>,
}

/// Name of a training stage, which also determines what it trains by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// Trains the newly initialized layers.
    Transfer,
    /// Trains all layers.
    Finetune,
}

impl StageName {
    /// The name used in `metrics.csv` and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Finetune => "finetune",
        }
    }
}

impl Config {
    /// Name of the file in the run directory.
    pub const FILE: &str = "config.toml";

    /// An example configuration for tests.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            versions: Versions::current(),
            data: DataConfig {
                root: "/data".to_string(),
                source: "given".to_string(),
                classes: vec!["ants".to_string(), "bees \"quoted\"".to_string()],
                train_images: 244,
                val_images: 153,
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
                weights: WeightsSource::Hub,
                weights_sha256: Some("0".repeat(64)),
                initialized_layers: vec!["classifier.6".to_string()],
            },
            training: TrainingConfig {
                seed: 1234,
                batch_size: 32,
                momentum: 0.9,
                calibration: true,
            },
            machine: MachineConfig {
                device: "cpu".to_string(),
                precision: "f32".to_string(),
                kernels: "avx2".to_string(),
                threads: 2,
                workers: 4,
                cache_images: 1 << 30,
                max_pixels: default_max_pixels(),
            },
            stages: vec![
                StageConfig {
                    name: StageName::Transfer,
                    epochs: 25,
                    groups: vec![LayerRate {
                        layers: "features".to_string(),
                        lr: 1e-3,
                    }],
                };
                2
            ],
        }
    }

    /// The decoder settings of the run.
    pub fn decode_options(&self) -> DecodeOptions {
        decode_options(self.data.ignore_exif, self.machine.max_pixels)
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration cannot be written as TOML.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let body =
            toml::to_string_pretty(self).context("cannot write the configuration as TOML")?;
        Ok(format!(
            "# The configuration of this run, with all defaults resolved.\n\n{body}"
        ))
    }

    /// Reads the `config.toml` of the run directory `run`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such file, and the errors of [`read`](Self::read).
    pub fn read_run(run: &Path) -> anyhow::Result<Self> {
        let file = run.join(Self::FILE);
        if !file.exists() {
            bail!(
                Diagnostic::new(format!("no `{}` in `{}`", Self::FILE, run.display()))
                    .help("pass a directory that `waggle train` created, such as `runs/train`")
            );
        }
        Self::read(&file)
    }

    /// Reads a `config.toml`.
    ///
    /// # Errors
    ///
    /// Returns an error if `path` is not a regular file, or if the file cannot be read, is larger
    /// than 16 MiB or is not a configuration.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_text(path, MAX_FILE_SIZE);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("{} is not the configuration of a run", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_writing_and_reading() {
        let config = Config::example();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Config::FILE);
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
    }

    #[test]
    fn candle_version_matches_the_lock_file() {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))
                .unwrap();
        assert!(lock.contains(&format!(
            "name = \"candle-core\"\nversion = \"{CANDLE_VERSION}\"\n"
        )));
    }
}
