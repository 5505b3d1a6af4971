//! `waggle summary`: prints a network's layers with output shapes and parameter counts.

use std::process::ExitCode;

use anyhow::Context;
use vgg::{Summary, VggConfig};

use crate::args::SummaryArgs;
use crate::escape::printable;
use crate::model_file;

/// Runs `waggle summary`.
pub fn run(args: &SummaryArgs) -> anyhow::Result<ExitCode> {
    let mut config = match args.model.as_ref().or(args.model_flag.as_ref()) {
        Some(path) => {
            let path = model_file::locate(path)?;
            let metadata = vgg::read_metadata(&path)?;
            metadata
                .with_context(|| {
                    format!(
                        "{} has no metadata that describes a network",
                        path.display()
                    )
                })?
                .config
        }
        None => VggConfig {
            input_size: args.input_size,
            ..VggConfig::named(&args.arch, args.classes.get())?
        },
    };
    config.architecture = printable(&config.architecture).into_owned();
    super::print(&format!("{}\n", Summary::new(&config)?))?;
    Ok(ExitCode::SUCCESS)
}
