//! Arguments of the commands that inspect data, a batch or a network: `check`, `show` and
//! `summary`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use vgg::VggConfig;

use super::types::{OnBad, input_size, positive};

/// Arguments of `waggle check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  no serious problem
  1  undecodable images, empty classes, classes only in val, or the
     same image in two classes or in both train and val; any other error
  2  usage error")]
pub struct CheckArgs {
    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` [default: data/hymenoptera_data
    /// if it exists, else sample]
    pub data: Option<PathBuf>,

    /// Print one JSON object with all findings (the text lists at most 10 files for each)
    #[arg(long)]
    pub json: bool,

    /// Threads that decode images
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive)]
    pub workers: NonZeroUsize,

    /// Ignore the EXIF orientation of images
    #[arg(long)]
    pub ignore_exif: bool,
}

/// Arguments of `waggle show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Data set: a folder with {train,val}/CLASS/IMAGE, or `sample` [default: data/hymenoptera_data
    /// if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// What to do if an image of the batch cannot be decoded: stop and list all such images of the
    /// train split, or decode the whole split first and skip them
    #[arg(long, value_name = "fail|skip", value_enum, default_value_t = OnBad::Fail)]
    pub on_bad: OnBad,

    /// PNG file to write
    #[arg(long, short, value_name = "FILE", default_value = "train_batch.png")]
    pub out: PathBuf,

    /// Replace an existing file
    #[arg(long)]
    pub overwrite: bool,

    /// Images in the batch; fewer if the train split is smaller
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub batch_size: NonZeroUsize,

    /// Width and height of the network input, in pixels [default: 224, or 64 for the sample]
    #[arg(long, value_name = "PIXELS", value_parser = input_size)]
    pub input_size: Option<usize>,

    /// Epoch to draw the batch from, counted from 1. Each epoch has its own order and augmentation
    #[arg(long, value_name = "N", default_value = "2")]
    pub epoch: NonZeroU64,

    /// Random seed for the order and the augmentation
    #[arg(long, value_name = "N", default_value_t = 1234)]
    pub seed: u64,

    /// Ignore the EXIF orientation of images
    #[arg(long)]
    pub ignore_exif: bool,
}

/// Arguments of `waggle summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Architecture
    #[arg(long, value_name = "NAME", default_value = "vgg16", value_parser = VggConfig::NAMES)]
    pub arch: String,

    /// Number of classes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = positive)]
    pub classes: NonZeroUsize,

    /// Width and height of the network input, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "224", value_parser = input_size)]
    pub input_size: usize,

    /// Describe the network of a model file or run directory
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["arch", "classes", "input_size"])]
    pub model: Option<PathBuf>,
}
