//! `cargo xtask`: the project's development tasks, which are functions of the library.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use xtask::fetch_data::HYMENOPTERA_URL;
use xtask::{
    bench_peers, cargo, ci, cuda_check, fetch_data, fuzz, platforms, project, reference, sanitize,
    tidy,
};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
/// Development tasks of the project.
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Download the ants and bees photographs (47 MB), unless they are already complete
    FetchData {
        /// A local copy of the archive, or the URL of a mirror
        #[arg(long, value_name = "FILE|URL", default_value = HYMENOPTERA_URL)]
        from: String,
        /// Destination directory [default: data/hymenoptera_data in the project]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Download again even if the directory is complete
        #[arg(long)]
        force: bool,
    },
    /// Check rules about the source code that rustfmt and clippy do not check
    Tidy,
    /// Run everything that must pass before a change is merged
    Ci,
    /// Run the tests that need reference values from outside the repository
    Reference {
        /// Directory with golden/, data/ and weights/
        path: PathBuf,
    },
    /// Compare the speed of this project with PyTorch and other libraries
    BenchPeers(bench_peers::Options),
    /// Fuzz the code that reads files, guided by coverage
    Fuzz {
        /// Arguments of the fuzzer: --executions N, --target NAME, --seed N, --input FILE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the workspace's tests with AddressSanitizer
    Sanitize,
    /// Lint the CUDA code without a GPU or CUDA toolkit, or build it with --build
    CudaCheck(cuda_check::Options),
    /// Lint for Windows and macOS, with Metal, Accelerate and MKL, on any Unix system
    Platforms,
    /// Pretrain the backbone of the built-in sample and write it to data/
    PretrainSample {
        /// Arguments of the example `pretrain_sample`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Returning the error from `main` would print its debug form, with a backtrace if
            // `RUST_BACKTRACE` is set.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::FetchData { from, data, force } => fetch_data::run(&from, data, force),
        Task::Tidy => tidy::run(&project::root()),
        Task::Ci => ci::run(&project::root()),
        Task::Reference { path } => reference::run(&project::root(), &path),
        Task::BenchPeers(options) => bench_peers::run(&project::root(), &options),
        Task::Fuzz { args } => fuzz::run(&project::root(), &args),
        Task::Sanitize => sanitize::run(&project::root()),
        Task::CudaCheck(options) => cuda_check::run(&project::root(), &options),
        Task::Platforms => platforms::run(&project::root()),
        Task::PretrainSample { args } => cargo::Cargo::new(&project::root())
            .args([
                "run",
                "--release",
                "-p",
                "cli",
                "--example",
                "pretrain_sample",
                "--",
            ])
            .args(args)
            .run(),
    }
}
