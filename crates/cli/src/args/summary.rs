//! The arguments of `waggle summary`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use vgg::VggConfig;

use crate::values::InputSize;

/// `waggle summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Network
    #[arg(long, value_name = "NAME", default_value = "vgg16", value_parser = VggConfig::NAMES)]
    pub arch: String,

    /// Classes that it tells apart
    #[arg(long, value_name = "N", default_value = "1000", value_parser = super::positive)]
    pub classes: NonZeroUsize,

    /// Side of the square that the network sees, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "224")]
    pub input_size: InputSize,

    /// A model.safetensors or run directory to describe instead
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["arch", "classes", "input_size"])]
    pub model: Option<PathBuf>,
}
