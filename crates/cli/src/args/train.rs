//! Arguments of `waggle train`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use vgg::VggConfig;

use super::MachineArgs;
use super::types::{
    LayerRates, OnBad, StageChoice, WeightsSource, byte_size, finetune_epochs, input_size,
    learning_rate, minutes, momentum, seed, transfer_epochs, up_to_a_million,
};

/// Ids of the arguments that can be combined with `--resume`. Except for `allow_changed_data`, they
/// do not change the result of the run: the contents of the data and the weights are compared with
/// those of the run.
pub(super) const WITH_RESUME: [&str; 12] = [
    "resume",
    "allow_changed_data",
    "data",
    "weights",
    "checkpoint_every",
    "workers",
    "cache_images",
    "max_pixels",
    "tensorboard",
    "quiet",
    "verbose",
    "json",
];

/// Options that have no effect with a value of `--stage`: the value, their ids, and why.
const WITHOUT_EFFECT: [(StageChoice, &[&str], &str); 2] = [
    (
        StageChoice::Transfer,
        &["finetune_lr", "finetune_epochs"],
        "with `--stage transfer`, which leaves out the finetune stage",
    ),
    (
        StageChoice::Finetune,
        &["lr", "transfer_epochs", "transfer_layers"],
        "with `--stage finetune`, which leaves out the transfer stage",
    ),
];

/// Returns why the arguments of `waggle train` conflict: one of them has no effect.
pub(super) fn conflict(matches: &ArgMatches) -> Option<String> {
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let without_effect = |id: &str, why: &str| {
        let flag = id.replace('_', "-");
        is_given(id).then(|| format!("`--{flag}` has no effect {why}"))
    };
    if !is_given("resume") {
        let conflict = without_effect("allow_changed_data", "without `--resume`");
        if conflict.is_some() {
            return conflict;
        }
    }
    let stage = matches.get_one::<StageChoice>("stage")?;
    let (_, ids, why) = WITHOUT_EFFECT.iter().find(|(choice, ..)| choice == stage)?;
    ids.iter().find_map(|id| without_effect(id, why))
}

const TRAIN_EXAMPLES: &str = "\
Examples:
  waggle train --data my_images --out runs/mine
  waggle train --stage finetune --weights runs/train

  # fine-tune with frozen convolutions
  waggle train --finetune-lr classifier=1e-3

  # resume after an interrupt or a crash
  waggle train --resume runs/train

  # write events for other programs
  waggle train --json > events.jsonl

The directory of a finished run holds run.toml, config.toml, metrics.csv, curves.png,
confusion_matrix.png, predictions.csv, train_batch.png, report.html and model.safetensors.
`waggle predict` needs only model.safetensors.";

/// Arguments of `waggle train`.
#[derive(Debug, Clone, Args)]
#[command(after_help = TRAIN_EXAMPLES)]
pub struct TrainArgs {
    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` for the built-in drawings.
    /// The validation folder may also be called `valid` or `validation` [default:
    /// data/hymenoptera_data if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do with images that cannot be decoded
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// Initial weights: `hub` (timm's ImageNet weights, downloaded once),
    /// `hf:OWNER/REPO[@REVISION][/FILE]` (a VGG on the Hugging Face hub), a file (.safetensors or a
    /// PyTorch state dict, with torchvision's or timm's tensor names; FILE#KEY if it contains several
    /// networks), a run directory, `sample` (the
    /// built-in backbone), or `none` (random) [default: hub; for the sample data set without --arch,
    /// sample]
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<WeightsSource>,

    /// Architecture [default: detected from the weights file, else vgg16; for the sample data set with
    /// --weights none, that of the built-in backbone]
    #[arg(long, value_name = "NAME", value_parser = VggConfig::NAMES)]
    pub arch: Option<String>,

    /// Width and height of the network input, in pixels [default: that of the
    /// weights or the architecture, usually 224]
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    pub input_size: Option<usize>,

    /// Run directory to create. An existing directory is never overwritten: a number is appended to
    /// the name, as in DIR-2
    #[arg(long, short, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    /// Resume an interrupted run from its last checkpoint, with the settings of the run. On a CPU
    /// and with unchanged data, the result is bit-identical to an uninterrupted run. Can be combined
    /// only with --data and --weights (if these have moved), --allow-changed-data,
    /// --checkpoint-every, --workers, --cache-images, --max-pixels, --tensorboard, --quiet, --verbose
    /// and --json
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,

    /// With --resume: accept that images were added, removed or modified
    #[arg(long)]
    pub allow_changed_data: bool,

    /// Minutes between checkpoints within an epoch; 0 writes them only at the start of each stage and
    /// the end of each epoch. The two newest are kept, each up to three times the
    /// size of the model, until the run is complete
    #[arg(long, value_name = "MINUTES", default_value = "5", value_parser = minutes)]
    pub checkpoint_every: Duration,

    /// Stages to run
    #[arg(long, value_enum, default_value_t = StageChoice::Both, help_heading = "Recipe")]
    pub stage: StageChoice,

    /// Epochs of the transfer stage. The first is a baseline: it validates and does not train
    #[arg(long, value_name = "N", default_value = "25", value_parser = transfer_epochs, help_heading = "Recipe")]
    pub transfer_epochs: NonZeroUsize,

    /// Epochs of the finetune stage. The first is a baseline: it validates and does not train
    #[arg(long, value_name = "N", default_value = "25", value_parser = finetune_epochs, help_heading = "Recipe")]
    pub finetune_epochs: NonZeroUsize,

    /// Images per batch, in training and validation
    #[arg(long, value_name = "N", default_value = "32", value_parser = up_to_a_million, help_heading = "Recipe")]
    pub batch_size: NonZeroUsize,

    /// Learning rate of the transfer stage
    #[arg(long, value_name = "LR", default_value = "1e-3", value_parser = learning_rate, help_heading = "Recipe")]
    pub lr: f64,

    /// SGD momentum of both stages
    #[arg(long, value_name = "X", default_value = "0.9", value_parser = momentum, help_heading = "Recipe")]
    pub momentum: f64,

    /// Prefixes of the layers to train in the transfer stage, comma-separated [default: the newly
    /// initialized layers, or the last layer if there are none]
    #[arg(
        long,
        value_name = "LAYERS",
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new(),
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

    /// Do not calibrate the probabilities. By default, a temperature is fitted to the val images after
    /// the last stage and stored with the model; it does not change the predicted classes
    #[arg(long, help_heading = "Recipe")]
    pub no_calibration: bool,

    /// Random seed. On a CPU, the same seed, machine and number of threads give a bit-identical model
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1234,
        value_parser = seed,
        help_heading = "Recipe"
    )]
    pub seed: u64,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,

    /// Memory for decoded images, such as 500MB or 1GiB; 0 disables the cache [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = byte_size, help_heading = "Machine")]
    pub cache_images: Option<u64>,

    /// Also write event files for TensorBoard to DIR/tensorboard: metrics, the training batch, the
    /// confusion matrix and the settings. A resumed run continues them without this flag
    #[arg(long, help_heading = "Output")]
    pub tensorboard: bool,

    /// Print only the path of the run directory, at the end. Warnings and errors still go to standard
    /// error
    #[arg(long, short, conflicts_with_all = ["json", "verbose"], help_heading = "Output")]
    pub quiet: bool,

    /// Also print the layer table, and the tensors of the weights file that were not loaded
    #[arg(long, short, conflicts_with = "json", help_heading = "Output")]
    pub verbose: bool,

    /// Print events as JSON, one object per line
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}
