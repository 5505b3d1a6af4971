//! `cargo xtask bench-peers`: compares the speed and memory of this project with PyTorch.
//!
//! Builds the example `bench_worker` of `cli`, and starts `xtask/peers/driver.py`, which measures it
//! against PyTorch and torchvision in `xtask/peers/peer.py`.

use crate::cargo;
use anyhow::Result;
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Options of `cargo xtask bench-peers`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Python with torch and torchvision
    #[arg(long, value_name = "PATH")]
    pub python: PathBuf,
    /// Device to measure on; `cuda` builds with cuDNN
    #[arg(long, value_parser = ["cpu", "cuda"], default_value = "cpu")]
    pub device: String,
    /// Other options of `driver.py`: --only, --threads, --rounds, --data, --json, --save
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    pub driver: Vec<String>,
}

/// Builds the worker and runs the driver, which prints the table to standard output.
///
/// # Errors
///
/// Returns an error if the build or the driver fails. The driver fails without PyTorch, without the
/// photographs that a row needs, for an unknown row, and if a row failed.
pub fn run(sh: &Shell, options: &Options) -> Result<()> {
    let features = if options.device == "cuda" {
        "--features cudnn"
    } else {
        ""
    };
    let build = "build --locked --release -p cli --example bench_worker --target-dir target";
    cargo(sh, &format!("{build} {features}")).run()?;
    let Options {
        python,
        device,
        driver,
    } = options;
    let worker = sh
        .current_dir()
        .join("target/release/examples/bench_worker");
    let command = cmd!(
        sh,
        "{python} xtask/peers/driver.py --worker {worker} --device {device} {driver...}"
    );
    Ok(command.run()?)
}
