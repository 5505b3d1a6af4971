//! `cargo xtask bench-peers`: compares the speed and memory of this project with PyTorch.
//!
//! Builds the example `bench_worker` of `cli`, and starts `xtask/peers/driver.py`, which measures it
//! against PyTorch and torchvision in `xtask/peers/peer.py`.

use crate::cargo;
use anyhow::Result;
use std::path::PathBuf;
use xshell::Shell;

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
pub fn run(sh: &Shell, options: &Options) -> Result<()> {
    let features = match options.device.as_str() {
        "cuda" => "--features cudnn",
        _ => "",
    };
    let build = "build --locked --release -p cli --example bench_worker --target-dir target";
    cargo(sh, &format!("{build} {features}")).run()?;
    let worker = sh
        .current_dir()
        .join("target/release/examples/bench_worker");
    let driver = sh.cmd(&options.python).arg("xtask/peers/driver.py");
    let driver = driver.arg("--worker").arg(worker);
    let driver = driver.args(["--device", &options.device]);
    Ok(driver.args(&options.driver).run()?)
}
