//! Arguments of `waggle explain`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use vgg::HeatMapMethod;

use super::{ImageArgs, MachineArgs};

/// Arguments of `waggle explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle explain runs/train bee.jpg
  waggle explain runs/train photos/ --class ants
  waggle explain runs/train bee.jpg --layer features.22

Each image gives two files, named after it:
  NAME.png  the map over the image that the network sees;
            the outline is at half the maximum
  NAME.npy  the map for numpy.load: float32, as high and
            wide as the network's input, from 0 to 1")]
pub struct ExplainArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    #[command(flatten)]
    /// The images.
    pub images: ImageArgs,

    /// Class to explain [default: the predicted class of each image]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub class: Option<String>,

    /// Formula of the map
    #[arg(
        long,
        default_value_t = HeatMapMethod::default(),
        value_parser = PossibleValuesParser::new(HeatMapMethod::NAMES)
            .try_map(|name| name.parse::<HeatMapMethod>())
    )]
    pub method: HeatMapMethod,

    /// ReLU or pool of the backbone whose output is mapped, as `waggle summary --model` lists them
    /// [default: the last ReLU, features.29 of vgg16]
    #[arg(long, value_name = "LAYER", value_parser = NonEmptyStringValueParser::new())]
    pub layer: Option<String>,

    /// Folder to create for the files; if it exists, DIR-2, DIR-3 and so on
    #[arg(long, short, value_name = "DIR", default_value = "runs/explain")]
    pub out: PathBuf,

    /// Print one JSON object per line: path, class, probability, overlay and map (the paths of the
    /// files), or path and error for an image without a map
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,
}
