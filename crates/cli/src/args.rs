//! The command line: flags, defaults, help, and the checks of individual values.
//!
//! [`crate::config`] resolves the arguments together with the data and the weights before any work
//! starts. Parsing here rejects every value that is invalid by itself, so the rest of the program
//! never sees a batch size of zero or a learning rate that is NaN.

mod export;
mod inspect;
mod install;
mod resuming;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use vgg::VggConfig;

use crate::device::DeviceChoice;
use crate::values::{
    ByteSize, InputSize, LayerRates, LearningRate, Momentum, OnBad, StageChoice, WeightsSource,
};

pub use export::{ExportArgs, ExportFormat};
pub use inspect::{CheckArgs, ShowArgs, SummaryArgs};
pub use install::{CompletionsArgs, ManArgs};
pub use resuming::ResumeArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  waggle train                           train on the default data set
  waggle train --data my_images          train on my_images/{train,val}/CLASS/image.jpg
  waggle predict runs/train new_images   classify images
  waggle evaluate runs/train             measure accuracy on the validation images
  waggle check my_images                 find damaged files, duplicates and leaks

Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted (SIGINT), 143 terminated (SIGTERM).";

const TRAIN_EXAMPLES: &str = "\
Examples:
  waggle train --data my_images --weights vgg16.safetensors --out runs/mine
  waggle train --stage finetune --weights runs/train/model.safetensors
  waggle train --finetune-lr classifier=1e-3   fine-tune with frozen convolutions
  waggle train --resume runs/train             resume after an interrupt or a crash
  waggle train --json > events.jsonl           write events for other programs

The run directory holds config.toml, metrics.csv, curves.png, confusion_matrix.png, train_batch.png
and model.safetensors. `waggle predict` needs only model.safetensors.";

/// Fine-tune a pretrained VGG on a folder of images, and classify images with it.
#[derive(Debug, Parser)]
#[command(name = "waggle", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// The subcommand to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `waggle`, each with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier in two stages: first the new head, then all layers
    Train(Box<TrainArgs>),
    /// Measure the accuracy of a trained model on a folder of images
    Evaluate(EvaluateArgs),
    /// Classify images
    Predict(PredictArgs),
    /// Convert a trained model to safetensors, timm or ONNX
    Export(ExportArgs),
    /// Check a data set for damaged files, duplicates, leaks and conflicting labels
    Check(CheckArgs),
    /// Draw a training batch as the network sees it
    Show(ShowArgs),
    /// Print the layers of a network with their output shapes and parameter counts
    Summary(SummaryArgs),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
    /// Write the man pages of waggle and its subcommands
    Man(ManArgs),
}

/// Arguments of `waggle train`.
#[derive(Debug, Clone, Args)]
#[command(after_help = TRAIN_EXAMPLES)]
pub struct TrainArgs {
    /// Data set: a folder with DIR/{train,val}/CLASS/IMAGE, or `sample` for the built-in drawings.
    /// The validation folder may also be called `valid` or `validation` [default:
    /// data/hymenoptera_data if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do if images cannot be decoded: stop and list them, or skip them
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// Initial weights: `hub` (timm's ImageNet weights, downloaded once),
    /// `hf:OWNER/REPO[@REVISION][/FILE]` (a VGG on the Hugging Face hub), a FILE (.safetensors or a
    /// PyTorch state dict, with torchvision's or timm's names), a run directory, or `none` (random)
    /// [default: hub; for the sample, its built-in backbone]
    #[arg(long, value_name = "hub|hf:…|FILE|none")]
    pub weights: Option<WeightsSource>,

    /// Architecture [default: detected from the weights file, else vgg16]
    #[arg(long, value_name = "NAME", value_parser = VggConfig::NAMES)]
    pub arch: Option<String>,

    /// Width and height of the network input, in pixels [default: from the weights, usually 224]
    #[arg(long, value_name = "PIXELS")]
    pub input_size: Option<InputSize>,

    /// Run directory to create. An existing directory is never overwritten: runs/train-2 is created
    /// instead
    #[arg(long, short, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    #[command(flatten)]
    /// Checkpoints and resuming.
    pub resuming: ResumeArgs,

    /// Stages to run: transfer trains the newly initialized layers, finetune trains the
    /// layers of --finetune-lr (by default all), both runs one after the other
    #[arg(long, value_enum, default_value_t = StageChoice::Both, help_heading = "Recipe")]
    pub stage: StageChoice,

    /// Epochs of the transfer stage. The first is a baseline: it validates and does not train
    #[arg(long, value_name = "N", default_value = "25", value_parser = positive, help_heading = "Recipe")]
    pub transfer_epochs: NonZeroUsize,

    /// Epochs of the finetune stage. The first is a baseline: it validates and does not train
    #[arg(long, value_name = "N", default_value = "25", value_parser = positive, help_heading = "Recipe")]
    pub finetune_epochs: NonZeroUsize,

    /// Images per training step
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive, help_heading = "Recipe")]
    pub batch_size: NonZeroUsize,

    /// Learning rate of the transfer stage
    #[arg(
        long,
        value_name = "LR",
        default_value = "1e-3",
        help_heading = "Recipe"
    )]
    pub lr: LearningRate,

    /// SGD momentum of both stages
    #[arg(long, value_name = "X", default_value = "0.9", help_heading = "Recipe")]
    pub momentum: Momentum,

    /// Layers to train in the transfer stage, comma-separated [default: the newly initialized
    /// layers, or the last layer if there are none]
    #[arg(
        long,
        value_name = "LAYERS",
        value_delimiter = ',',
        help_heading = "Recipe"
    )]
    pub transfer_layers: Option<Vec<String>>,

    /// Learning rates of the finetune stage by layer prefix. The longest matching prefix wins;
    /// unmatched layers stay frozen
    #[arg(
        long,
        value_name = "LAYERS=LR,...",
        default_value = "features=1e-4,classifier.0=5e-4,classifier.3=5e-4,classifier.6=1e-3",
        help_heading = "Recipe"
    )]
    pub finetune_lr: LayerRates,

    /// Random seed. The same seed, machine and number of threads give a bit-identical model
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

    /// Memory for decoded images, such as 500MB or 1GiB; 0 disables the cache
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        help_heading = "Machine"
    )]
    pub cache_images: ByteSize,

    /// Print only the path of the run directory, at the end
    #[arg(long, short, conflicts_with_all = ["json", "verbose"], help_heading = "Output")]
    pub quiet: bool,

    /// Print the layer table and the shapes of replaced tensors
    #[arg(long, short, conflicts_with = "json", help_heading = "Output")]
    pub verbose: bool,

    /// Print events as JSON, one object per line
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Arguments for threads, device, precision and image decoding, shared by most commands.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Threads that decode images
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive, help_heading = "Machine")]
    pub workers: NonZeroUsize,

    /// Compute threads [default: the number of available CPUs]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Machine")]
    pub threads: Option<NonZeroUsize>,

    /// Device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub device: DeviceChoice,

    /// Compute precision: f32, or bf16 on NVIDIA GPUs (weights and updates stay f32)
    #[arg(long, default_value = "f32", help_heading = "Machine")]
    pub precision: vgg::Precision,

    /// Ignore the EXIF orientation of images, as torchvision does
    #[arg(long)]
    pub ignore_exif: bool,
}

/// Arguments of `waggle evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    /// Data set: a folder with DIR/SPLIT/CLASS/IMAGE, or `sample` [default: the data set of the
    /// run, else data/hymenoptera_data if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Split to evaluate. `val` also matches valid and validation
    #[arg(long, value_name = "NAME", default_value = "val")]
    pub split: String,

    /// What to do if images cannot be decoded: stop and list them, or skip them [default: fail,
    /// except for images that the training run skipped]
    #[arg(long, value_name = "fail|skip", value_enum)]
    pub on_bad: Option<OnBad>,

    /// Images per batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    #[command(flatten)]
    /// Threads, workers, device.
    pub machine: MachineArgs,

    /// Print one JSON object: loss, accuracy, classes, confusion, skipped
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `waggle predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle predict runs/train bee.jpg
  waggle predict runs/train photos/ --csv > photos.csv
  waggle predict model.safetensors photos/ --top-k 3 --json

If an image cannot be read, an error is printed to standard error, the other images are still
classified, and the exit code is 1. With --json the image also gets a line: path, error.")]
pub struct PredictArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    /// Images, or folders of images (searched recursively)
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Number of classes to print per image, most probable first
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    pub top_k: NonZeroUsize,

    /// Images per batch
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    /// Print one JSON object per line: path, class, probability, top; or path, error
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Print CSV with a header: path, class, probability; with --top-k also class_2, probability_2
    /// and so on
    #[arg(long)]
    pub csv: bool,

    #[command(flatten)]
    /// Threads, workers, device.
    pub machine: MachineArgs,
}

fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a positive integer".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    fn parse_error(arguments: &[&str]) -> String {
        Cli::try_parse_from(arguments)
            .expect_err("the arguments are invalid")
            .to_string()
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_flag() {
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
            // With `--flag=value`, clap takes "-1" as a value and not as a flag.
            let message = parse_error(&["waggle", "train", &format!("{flag}={value}")]);
            assert!(message.contains(flag), "{flag} {value}: {message}");
        }
    }

    #[test]
    fn the_defaults_are_the_recipe_of_the_notebook() {
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
            .map(|group| (group.layers.as_str(), group.lr))
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
