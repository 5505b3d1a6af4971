//! Arguments of `waggle export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `waggle export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # write runs/train/model.onnx
  waggle export runs/train --to onnx --softmax

  # write the folder ants
  waggle export runs/train --to timm --out ants

To load a timm export in Python: timm.create_model(\"local-dir:ants\", pretrained=True)")]
pub struct ExportArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    /// Output format
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: ExportFormat,

    /// Output file, or folder for timm [default: exported.safetensors, timm or model.onnx next to
    /// the model]
    #[arg(long, short, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// Replace existing files
    #[arg(long)]
    pub overwrite: bool,

    /// Append a softmax, so that the model outputs the probabilities of `waggle predict` instead of
    /// logits (onnx only)
    #[arg(long)]
    pub softmax: bool,
}

/// Output formats of `waggle export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Weights under torchvision's tensor names
    Safetensors,
    /// A folder with config.json and the weights under timm's tensor names
    Timm,
    /// The network and its weights, with a dynamic batch size; classes, mean and std in the metadata
    Onnx,
}
