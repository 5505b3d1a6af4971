//! Arguments of the commands that inspect data, labels, a batch or a network: `check`, `labels`,
//! `show` and `summary`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use vgg::VggConfig;

use super::types::{OnBad, epoch, input_size, seed, threads, up_to_a_million};
use super::{DecodeArgs, MachineArgs};

/// Arguments of `waggle check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  no serious problems
  1  undecodable images, class folders with mostly unused
     images (such as HEIC), a single class, empty classes,
     classes only in val, duplicates or near duplicates in
     two classes or in both splits; or an error
  2  usage error")]
pub struct CheckArgs {
    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` [default: data/hymenoptera_data
    /// if it exists, else sample]
    pub data: Option<PathBuf>,

    /// The data set, passed as to the other commands
    #[arg(long = "data", value_name = "DIR", conflicts_with = "data")]
    pub data_flag: Option<PathBuf>,

    /// Print one JSON object, which lists all files of each finding (the text lists at most 10)
    #[arg(long)]
    pub json: bool,

    /// Threads that decode images, at most 1024
    #[arg(long, value_name = "N", default_value = "4", value_parser = threads)]
    pub workers: NonZeroUsize,

    #[command(flatten)]
    /// Limits and orientation of images.
    pub decode: DecodeArgs,
}

/// Arguments of `waggle labels`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle labels runs/train
  waggle labels runs/train --csv > labels.csv
  waggle labels vgg16.safetensors --data my_images

The backbone of the model computes the features of each train image. A logistic regression on the images \
of four folds judges those of the fifth, so that no head judges an image that it was trained on. \
Duplicates and near duplicates are in the same fold. Confident learning then finds the labels that are \
probably wrong, with the two methods of cleanlab: prune_by_noise_rate and confident_learning. p(label) \
is the probability of the given label, the self-confidence.")]
pub struct LabelsArgs {
    /// Run directory, model file or pretrained weights. Only the backbone is used
    pub model: PathBuf,

    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` [default: the data set in
    /// config.toml next to the model; without that file, data/hymenoptera_data if it exists, else
    /// sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do with images that cannot be decoded [default: fail, except for images that the
    /// training run skipped]
    #[arg(long, value_name = "fail|skip", value_enum)]
    pub on_bad: Option<OnBad>,

    /// Random seed that assigns the images to folds
    #[arg(long, value_name = "N", default_value_t = 1234, value_parser = seed)]
    pub seed: u64,

    /// Images per batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = up_to_a_million)]
    pub batch_size: NonZeroUsize,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,

    /// Print one JSON object with all images, most doubtful first (the text lists at most 20 suspected
    /// ones)
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Print CSV with a header and all images, most doubtful first: path, label, suggested,
    /// self_confidence, normalized_margin, prune_by_noise_rate, confident_learning
    #[arg(long)]
    pub csv: bool,
}

/// Arguments of `waggle show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` [default: data/hymenoptera_data
    /// if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do with train images that cannot be decoded. `fail` stops only if one is in the batch
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// PNG file to write
    #[arg(long, short, value_name = "FILE", default_value = "train_batch.png")]
    pub out: PathBuf,

    /// Replace an existing file
    #[arg(long)]
    pub overwrite: bool,

    /// Images in the batch; fewer if the train split is smaller
    #[arg(long, value_name = "N", default_value = "32", value_parser = up_to_a_million)]
    pub batch_size: NonZeroUsize,

    /// Width and height of the network input, in pixels [default: 224, or 64 for the sample]
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    pub input_size: Option<usize>,

    /// Epoch to draw the batch from, as `waggle train` counts: 1 is the baseline, 2 the first
    /// training epoch. Each epoch has its own order and augmentation
    #[arg(long, value_name = "N", default_value = "2", value_parser = epoch)]
    pub epoch: NonZeroU64,

    /// Random seed for the order and the augmentation
    #[arg(long, value_name = "N", default_value_t = 1234, value_parser = seed)]
    pub seed: u64,

    #[command(flatten)]
    /// Limits and orientation of images.
    pub decode: DecodeArgs,
}

/// Arguments of `waggle summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Architecture
    #[arg(long, value_name = "NAME", default_value = "vgg16", value_parser = VggConfig::NAMES)]
    pub arch: String,

    /// Number of classes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = up_to_a_million)]
    pub classes: NonZeroUsize,

    /// Width and height of the network input, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "224", value_parser = input_size)]
    pub input_size: usize,

    /// Model file or run directory whose network to print. Replaces the options above
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["arch", "classes", "input_size"])]
    pub model: Option<PathBuf>,
}
