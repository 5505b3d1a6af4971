//! `cargo xtask cuda-check`: lints the code behind the feature `cuda` without a GPU.
//!
//! candle's build scripts compile CUDA kernels with NVIDIA's `nvcc`, even for `cargo check`. Lints
//! need the names of the kernels but not their code, so a stub that writes empty files replaces
//! `nvcc`. Lints use a separate target directory, because empty kernels must never get into a
//! program.

use crate::{cargo, compiler_stub};
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;
use xshell::Shell;

/// Options of `cargo xtask cuda-check`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Also compile the kernels, with the toolkit in CUDA_HOME; does not link the program
    #[arg(long)]
    pub build: bool,
}

/// Lints the workspace with the feature `cudnn`, which includes `cuda`.
///
/// # Errors
///
/// Returns an error if a lint fails, or with `build` if a kernel does not compile or `CUDA_HOME` is
/// not set.
pub fn run(sh: &Shell, options: &Options) -> Result<()> {
    let (nvcc, folder) = if options.build {
        let home = env::var_os("CUDA_HOME").context(
            "--build needs CUDA_HOME, the directory of a CUDA toolkit; CONTRIBUTING.md explains how to install one",
        )?;
        (PathBuf::from(home).join("bin/nvcc"), "target/cuda")
    } else {
        let folder = "target/cuda-check";
        (compiler_stub(sh, folder)?, folder)
    };
    let clippy = "clippy --locked --workspace --all-targets --features cudnn --target-dir";
    let mut clippy = cargo(sh, clippy)
        .args([folder, "--", "-D", "warnings"])
        .env("NVCC", nvcc);
    // CUDA 13.0 in cudarc's notation, and the oldest supported GPU generation: Ampere, which has
    // bf16.
    for (name, default) in [("CUDARC_CUDA_VERSION", "13000"), ("CUDA_COMPUTE_CAP", "80")] {
        if env::var_os(name).is_none() {
            clippy = clippy.env(name, default);
        }
    }
    Ok(clippy.run()?)
}
