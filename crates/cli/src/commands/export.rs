//! `waggle export`: a trained model for other programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use candle_core::Device;
use vgg::onnx::Output;

use crate::args::{ExportArgs, ExportFormat};
use crate::model_file;

/// Runs the command.
pub fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.softmax && args.to != ExportFormat::Onnx {
        bail!("--softmax belongs to --to onnx: the other formats hold weights alone");
    }
    let model = model_file::locate(&args.model)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(&model, args.to),
    };
    // Compared as files, so that `./model` and `model` are the same.
    if out
        .canonicalize()
        .is_ok_and(|out| model.canonicalize().is_ok_and(|model| model == out))
    {
        bail!(
            "{} is the model itself; choose another --out",
            out.display()
        );
    }
    super::keep_existing(&out, args.overwrite, "--out PATH")?;
    let vgg::Model { metadata, tensors } =
        vgg::load_model(&model, &Device::Cpu).context("the model cannot be used")?;
    if let Some(folder) = out.parent() {
        let doing = || format!("cannot make {}", folder.display());
        std::fs::create_dir_all(folder).with_context(doing)?;
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
    super::print(&format!("{}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Where an export goes unless told otherwise: beside the model.
fn beside(model: &Path, format: ExportFormat) -> PathBuf {
    model.with_file_name(match format {
        ExportFormat::Safetensors => "exported.safetensors",
        ExportFormat::Timm => "timm",
        ExportFormat::Onnx => "model.onnx",
    })
}
