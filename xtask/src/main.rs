//! `cargo xtask`: development tasks of the project.
//!
//! Of the workspace's other crates, this package depends only on `fetch`, and not on candle, so it
//! builds in seconds. Tasks that need the other crates run `cargo`.

mod bench_peers;
mod ci;
mod examples;
mod fuzz;
mod lint;
mod reference;
mod sanitize;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use xshell::{Cmd, Shell};
use xtask::fetch_data::{self, HYMENOPTERA_URL};
use xtask::{root, tidy};

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
    },
    /// Check rules about the source code that rustfmt and clippy do not check
    Tidy,
    /// Run everything that must pass before a change is merged
    Ci,
    /// Build all examples, and run those that take seconds
    Examples,
    /// Run an example of each library crate with only that crate as dependency
    Standalone,
    /// Run the tests that need reference values from outside the repository
    Reference {
        /// Directory with golden/, data/ and weights/
        path: PathBuf,
    },
    /// Compare the speed of this project with PyTorch
    BenchPeers(bench_peers::Options),
    /// Fuzz the code that reads files, with libFuzzer; needs a C++ compiler
    Fuzz {
        /// A target: the name of a file in fuzz/src/bin
        target: String,
        /// Arguments of libFuzzer, such as -max_total_time=60, or a file to run once
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the unit, golden and kernel tests with AddressSanitizer, on Linux on x86-64
    Sanitize,
    /// Lint the CUDA code without a GPU or CUDA toolkit
    CudaCheck {
        /// Also compile the kernels, with the toolkit in CUDA_HOME; does not link the program
        #[arg(long)]
        build: bool,
    },
    /// Lint for Windows and for macOS, also with Metal and Accelerate; on Linux on x86-64, also with MKL
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
    let sh = &Shell::new()?;
    sh.change_dir(root());
    match task {
        Task::FetchData { from, data } => fetch_data::run(&from, data),
        Task::Tidy => tidy::run(sh),
        Task::Ci => ci::run(sh),
        Task::Examples => examples::run(sh),
        Task::Standalone => examples::check_standalone(sh),
        Task::Reference { path } => reference::run(sh, &path),
        Task::BenchPeers(options) => bench_peers::run(sh, &options),
        Task::Fuzz { target, args } => fuzz::run(sh, &target, &args),
        Task::Sanitize => sanitize::run(sh),
        Task::CudaCheck { build } => lint::cuda(sh, build),
        Task::Platforms => lint::platforms(sh),
        Task::PretrainSample { args } => {
            let run = "run --release -p cli --example pretrain_sample --";
            Ok(cargo(sh, run).args(args).run()?)
        }
    }
}

/// Creates a `cargo` command from a line of arguments separated by white space.
///
/// It does not inherit the variables that `cargo xtask` sets for this package. ring's build script
/// depends on them, so it would run again, and everything above ring would be rebuilt.
fn cargo<'a>(sh: &'a Shell, line: &str) -> Cmd<'a> {
    let cargo = sh.cmd("cargo").args(line.split_whitespace());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter(|name| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
        .fold(cargo, Cmd::env_remove)
}
