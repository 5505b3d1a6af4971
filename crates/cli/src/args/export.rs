//! The arguments of `waggle export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `waggle export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle export runs/train --to onnx --softmax     model.onnx beside the model
  waggle export runs/train --to timm --out ants    timm.create_model(\"local-dir:ants\", pretrained=True)")]
pub struct ExportArgs {
    /// A model.safetensors, or the run directory that holds it
    pub model: PathBuf,

    /// What to write: safetensors (torchvision's names), timm (a folder with its names and config.json) or
    /// onnx (any number of pictures at once; classes, mean and std in its metadata)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: ExportFormat,

    /// File to write, for timm a folder [default: exported.safetensors, timm or model.onnx, beside the model]
    #[arg(long, short, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// Replace what is there already
    #[arg(long)]
    pub overwrite: bool,

    /// End in probabilities instead of logits (onnx)
    #[arg(long)]
    pub softmax: bool,
}

/// A format that models are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Weights in torchvision's names
    Safetensors,
    /// Weights in timm's names, with its configuration
    Timm,
    /// The whole network as ONNX
    Onnx,
}
