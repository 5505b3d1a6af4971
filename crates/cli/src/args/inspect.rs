//! The arguments of the commands that only look: at data, at a batch, at a network.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use vgg::VggConfig;

use super::positive;
use crate::values::{InputSize, OnBad};

/// `waggle check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing serious; 1 pictures that cannot be decoded, empty or unknown classes, pictures in
more than one class, or in train and in val; 2 wrong usage.")]
pub struct CheckArgs {
    /// Folder of pictures, DIR/{train,val}/CLASS/..., or `sample` [default: data/hymenoptera_data when it
    /// was fetched, else the built-in sample]
    pub data: Option<PathBuf>,

    /// Print one JSON object, with every file by name
    #[arg(long)]
    pub json: bool,

    /// Threads that read and decode pictures
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive)]
    pub workers: NonZeroUsize,

    /// Do not turn photographs upright by their EXIF orientation
    #[arg(long)]
    pub ignore_exif: bool,
}

/// `waggle show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Folder of pictures, DIR/train/CLASS/..., or `sample` [default: data/hymenoptera_data when it was
    /// fetched, else the built-in sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do about pictures that cannot be decoded: end with a list of them, or go on without them, and
    /// say which
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// PNG file to write
    #[arg(long, short, value_name = "FILE", default_value = "train_batch.png")]
    pub output: PathBuf,

    /// Replace the file if it is there already
    #[arg(long)]
    pub overwrite: bool,

    /// Pictures in the batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    /// Side of the square that the network sees, in pixels [default: 224, the built-in sample 64]
    #[arg(long, value_name = "PIXELS")]
    pub input_size: Option<InputSize>,

    /// Epoch that the batch is taken from: its pictures are cut, turned and ordered anew in each
    #[arg(long, value_name = "N", default_value = "2")]
    pub epoch: NonZeroU64,

    /// Seed of the order and the cuts
    #[arg(long, value_name = "N", default_value_t = 1234)]
    pub seed: u64,

    /// Do not turn photographs upright by their EXIF orientation
    #[arg(long)]
    pub ignore_exif: bool,
}

/// `waggle summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Network
    #[arg(long, value_name = "NAME", default_value = "vgg16", value_parser = VggConfig::NAMES)]
    pub arch: String,

    /// Classes that it tells apart
    #[arg(long, value_name = "N", default_value = "1000", value_parser = positive)]
    pub classes: NonZeroUsize,

    /// Side of the square that the network sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "224")]
    pub input_size: InputSize,

    /// A model.safetensors or run directory to describe instead
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["arch", "classes", "input_size"])]
    pub model: Option<PathBuf>,
}
