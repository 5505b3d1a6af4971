//! The command line as typed: names, defaults, help, and what one value alone can get wrong.
//!
//! What several arguments together mean (which data, which weights, which layers train) is decided in
//! [`crate::config`] before any work starts. A value that parses here is valid by itself: there is no
//! batch of no pictures and no learning rate that is not a number past this file.

mod export;
mod inspect;
mod resuming;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use vgg::VggConfig;

use crate::device::DeviceChoice;
use crate::values::{
    ByteSize, InputSize, LayerRates, Momentum, OnBad, Rate, StageChoice, WeightsSource,
};

pub use export::{ExportArgs, ExportFormat};
pub use inspect::{CheckArgs, ShowArgs, SummaryArgs};
pub use resuming::ResumeArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  waggle train                             the photographs, or the built-in sample
  waggle train --data my_pictures          my_pictures/{train,val}/CLASS/picture.jpg
  waggle predict runs/train new_pictures   a class for each picture
  waggle evaluate runs/train               accuracy on the validation pictures
  waggle check my_pictures                 damaged files, duplicates, leaks from train to val

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 and 143 interrupted.";

const TRAIN_EXAMPLES: &str = "\
Examples:
  waggle train --data my_pictures --weights vgg16.safetensors --out runs/mine
  waggle train --stage finetune --weights runs/train/model.safetensors
  waggle train --finetune-lr classifier=1e-3     keeps the convolutions frozen
  waggle train --resume runs/train               goes on after an interrupt, a crash, a power cut
  waggle train --json > events.jsonl             for programs

The run directory holds config.toml, metrics.csv, pictures of the curves and of a batch, and
model.safetensors, which is all that `waggle predict` needs.";

/// Transfer learning for pictures: a folder of photographs in, a trained VGG classifier out.
#[derive(Debug, Parser)]
#[command(name = "waggle", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The things that the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier on a folder of pictures, in two stages: the fresh layers, then all of them
    Train(Box<TrainArgs>),
    /// Measure a trained model on a folder of pictures
    Evaluate(EvaluateArgs),
    /// Say what is on pictures
    Predict(PredictArgs),
    /// Write a trained model for other programs: safetensors, timm, ONNX
    Export(ExportArgs),
    /// Look for what is wrong with a folder of pictures: damaged files, leaks, contradicting labels
    Check(CheckArgs),
    /// Draw a training batch as the network sees it, with the class names
    Show(ShowArgs),
    /// Print a network layer by layer, with shapes and parameter counts
    Summary(SummaryArgs),
}

/// `waggle train`.
#[derive(Debug, Clone, Args)]
#[command(after_help = TRAIN_EXAMPLES)]
pub struct TrainArgs {
    /// Folder of pictures, DIR/{train,val|valid|validation}/CLASS/..., or `sample` for the built-in
    /// drawings [default: data/hymenoptera_data when it was fetched, else the sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do about pictures that cannot be decoded: end with a list of them, or go on without them, and
    /// say which
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// Where the weights start: `hub` (timm's ImageNet weights, downloaded once), any VGG on the hub
    /// (hf:OWNER/REPO, then perhaps @REVISION and /FILE), a FILE (.safetensors, or a state dict of PyTorch) in torchvision's
    /// or timm's names, or `none` (random) [default: hub with photographs, the built-in backbone with the
    /// built-in sample]
    #[arg(long, value_name = "hub|hf:…|FILE|none")]
    pub weights: Option<WeightsSource>,

    /// Network, when the weights file does not say [default: vgg16]
    #[arg(long, value_name = "NAME", value_parser = VggConfig::NAMES)]
    pub arch: Option<String>,

    /// Side of the square that the network sees, in pixels [default: what the weights were made for; 224]
    #[arg(long, value_name = "PIXELS")]
    pub input_size: Option<InputSize>,

    /// Run directory to create; an existing one is never overwritten, runs/train-2 is made instead
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    #[command(flatten)]
    /// Going on after an interrupt.
    pub resuming: ResumeArgs,

    /// Which stages to run: transfer (what the weights left fresh trains, the rest is frozen), finetune
    /// (every layer, each with its own learning rate), or one after the other
    #[arg(long, value_enum, default_value_t = StageChoice::Both, help_heading = "Recipe")]
    pub stage: StageChoice,

    /// Epochs of the transfer stage; the first only validates
    #[arg(long, value_name = "N", default_value = "25", value_parser = positive, help_heading = "Recipe")]
    pub transfer_epochs: NonZeroUsize,

    /// Epochs of the fine-tuning stage; the first only validates
    #[arg(long, value_name = "N", default_value = "25", value_parser = positive, help_heading = "Recipe")]
    pub finetune_epochs: NonZeroUsize,

    /// Pictures in a step
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive, help_heading = "Recipe")]
    pub batch_size: NonZeroUsize,

    /// Learning rate of the transfer stage
    #[arg(
        long,
        value_name = "RATE",
        default_value = "1e-3",
        help_heading = "Recipe"
    )]
    pub lr: Rate,

    /// Momentum of SGD, in both stages
    #[arg(long, value_name = "X", default_value = "0.9", help_heading = "Recipe")]
    pub momentum: Momentum,

    /// Layers that train in the transfer stage, comma-separated [default: those that the weights left
    /// fresh; classifier.6 when they left none]
    #[arg(
        long,
        value_name = "LAYERS",
        value_delimiter = ',',
        help_heading = "Recipe"
    )]
    pub transfer_layers: Option<Vec<String>>,

    /// Learning rate of each part in the fine-tuning stage: the longest name that fits a layer counts;
    /// a layer that no name fits stays frozen
    #[arg(
        long,
        value_name = "LAYERS=RATE,...",
        default_value = "features=1e-4,classifier.0=5e-4,classifier.3=5e-4,classifier.6=1e-3",
        help_heading = "Recipe"
    )]
    pub finetune_lr: LayerRates,

    /// Seed of everything random: the same seed and number of threads give the same model, to the
    /// last bit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1234,
        value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64),
        help_heading = "Recipe"
    )]
    pub seed: u64,

    #[command(flatten)]
    /// Threads, workers, device.
    pub machine: MachineArgs,

    /// Keep decoded pictures in memory up to this size, e.g. 500MB, 1GiB; 0 turns it off
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        help_heading = "Machine"
    )]
    pub cache_images: ByteSize,

    /// Print nothing but the path of the run directory, at the end
    #[arg(long, short, conflicts_with = "json", help_heading = "Output")]
    pub quiet: bool,

    /// Print events as JSON, one object a line
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// What says how to use the machine and how to read pictures; shared by most commands.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Threads that read and decode pictures
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive, help_heading = "Machine")]
    pub workers: NonZeroUsize,

    /// Threads that compute [default: all cores that this process may use]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Machine")]
    pub threads: Option<NonZeroUsize>,

    /// Where to compute: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub device: DeviceChoice,

    /// What layers round to: f32, or bf16 (NVIDIA's GPUs only; weights and their updates stay f32)
    #[arg(long, default_value = "f32", help_heading = "Machine")]
    pub precision: vgg::Precision,

    /// Do not turn photographs upright by their EXIF orientation (torchvision does not)
    #[arg(long, help_heading = "Machine")]
    pub ignore_exif: bool,
}

/// `waggle evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A model.safetensors, or the run directory that holds it
    pub model: PathBuf,

    /// Folder of pictures, DIR/SPLIT/CLASS/..., or `sample` [default: the folder that the run trained
    /// on, else data/hymenoptera_data when it was fetched, else the built-in sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Which part of the folder; val also finds valid and validation
    #[arg(long, value_name = "NAME", default_value = "val")]
    pub split: String,

    /// What to do about pictures that cannot be decoded: end with a list of them, or go on without them, and
    /// say which [default: fail; on the data of the run, those that training left out are left out]
    #[arg(long, value_name = "fail|skip", value_enum)]
    pub on_bad: Option<OnBad>,

    /// Pictures computed at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    #[command(flatten)]
    /// Threads, workers, device.
    pub machine: MachineArgs,

    /// Print one JSON object: loss, accuracy, classes, confusion, skipped
    #[arg(long)]
    pub json: bool,
}

/// `waggle predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle predict runs/train bee.jpg
  waggle predict runs/train photos/ --csv > photos.csv
  waggle predict model.safetensors photos/ --top-k 3 --json

A picture that cannot be read is told of on standard error (with --json also by a line of its path and error),
the others go on, and the exit code is 1.")]
pub struct PredictArgs {
    /// A model.safetensors, or the run directory that holds it
    pub model: PathBuf,

    /// Pictures, or folders of pictures (with their subfolders)
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Classes to name for each picture, the most probable first
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    pub top_k: NonZeroUsize,

    /// Pictures computed at once
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    /// Print one JSON object a line: path, class, probability, top; for a picture that cannot be read, path, error
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Print CSV with a header line: path, class, probability
    #[arg(long)]
    pub csv: bool,

    #[command(flatten)]
    /// Threads, workers, device.
    pub machine: MachineArgs,
}

fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a whole number of at least 1".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    fn refused(arguments: &[&str]) -> String {
        Cli::try_parse_from(arguments)
            .expect_err("should be refused")
            .to_string()
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_the_flag_named() {
        for (flag, value) in [
            ("--batch-size", "0"),
            ("--lr", "NaN"),
            ("--lr", "-1"),
            ("--lr", "inf"),
            ("--momentum", "1"),
            ("--transfer-epochs", "0"),
            ("--workers", "0"),
            ("--threads", "0"),
            ("--finetune-lr", "features"),
            ("--finetune-lr", "features=fast"),
            ("--finetune-lr", "features=1e-3,features=1e-4"),
            ("--cache-images", "much"),
            ("--device", "tpu"),
            ("--precision", "f16"),
            ("--arch", "resnet50"),
            ("--weights", "hf:vgg16"),
            ("--input-size", "8"),
        ] {
            // `--flag=value`, so that "-1" is a value and not a flag of its own.
            let message = refused(&["waggle", "train", &format!("{flag}={value}")]);
            assert!(message.contains(flag), "{flag} {value}: {message}");
        }
    }

    #[test]
    fn the_defaults_are_the_notebooks_recipe() {
        let Command::Train(train) = Cli::parse_from(["waggle", "train"]).command else {
            panic!("not train");
        };
        assert_eq!(
            (train.transfer_epochs.get(), train.finetune_epochs.get()),
            (25, 25)
        );
        assert_eq!((train.batch_size.get(), train.seed), (32, 1234));
        assert_eq!((train.lr.get(), train.momentum.get()), (1e-3, 0.9));
        let rates: Vec<_> = train
            .finetune_lr
            .iter()
            .map(|group| (group.layers.as_str(), group.rate))
            .collect();
        assert_eq!(
            rates,
            [
                ("features", 1e-4),
                ("classifier.0", 5e-4),
                ("classifier.3", 5e-4),
                ("classifier.6", 1e-3)
            ]
        );
    }
}
