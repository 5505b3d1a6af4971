//! `waggle export`: writes a trained model in a format that other programs read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use candle_core::Device;
use vgg::onnx::Output;

use crate::args::{ExportArgs, ExportFormat};
use crate::device;
use crate::error::Diagnostic;
use crate::escape::printable_path;
use crate::model_file;

/// Runs `waggle export`.
pub fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.softmax && args.to != ExportFormat::Onnx {
        bail!(
            Diagnostic::new("only the onnx format can include a softmax")
                .help("pass `--to onnx`, or remove `--softmax`")
        );
    }
    let model = model_file::locate(&args.model)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => default_path(&model, args.to),
    };
    let files = match args.to {
        ExportFormat::Timm => vgg::timm::FILES.map(|name| out.join(name)).to_vec(),
        _ => vec![out.clone()],
    };
    // Compare canonical paths, so that `./model` and `model` count as the same file.
    let real = model.canonicalize().ok();
    let is_model = |file: &&PathBuf| real.is_some() && file.canonicalize().ok() == real;
    if let Some(file) = files.iter().find(is_model) {
        bail!(
            Diagnostic::new(format!("the output {} is the model itself", file.display()))
                .help("pass another path with `--out`")
        );
    }
    match args.to {
        ExportFormat::Timm => {
            super::check_output_folder(&out, &vgg::timm::FILES, args.overwrite, "--out")?;
        }
        _ => super::check_output_file(&out, args.overwrite, "--out")?,
    }
    device::start_threads(None)?;
    let vgg::Model { metadata, tensors } = vgg::load_model(&model, &Device::Cpu)?;
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    match args.to {
        ExportFormat::Safetensors => vgg::save(&out, &tensors, &metadata)?,
        ExportFormat::Timm => vgg::timm::save(&out, &tensors, &metadata)?,
        ExportFormat::Onnx => {
            let output = if args.softmax {
                Output::Probabilities
            } else {
                Output::Logits
            };
            vgg::onnx::save(&out, &tensors, &metadata, output)?;
        }
    }
    super::print(&format!("Wrote {}\n", printable_path(&out)))?;
    Ok(ExitCode::SUCCESS)
}

/// The default output path, next to the model.
fn default_path(model: &Path, format: ExportFormat) -> PathBuf {
    model.with_file_name(match format {
        ExportFormat::Safetensors => "exported.safetensors",
        ExportFormat::Timm => "timm",
        ExportFormat::Onnx => "model.onnx",
    })
}
