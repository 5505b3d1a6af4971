//! `cargo xtask`: the project's own chores. See the library beside it.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use xtask::fetch_data::{
    HYMENOPTERA_MANIFEST, HYMENOPTERA_URL, Manifest, Options, Outcome, Progress, Source, fetch,
};
use xtask::{
    bench_peers, cargo, ci, cuda_check, fuzz, platforms, project, reference, sanitize, tidy,
};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
/// The project's own chores.
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Fetch the photographs of ants and bees, 47 MB, unless they are there and complete
    FetchData {
        /// A copy of the archive, or the address of a mirror
        #[arg(long, value_name = "FILE|URL", default_value = HYMENOPTERA_URL)]
        from: String,
        /// The folder to make [default: data/hymenoptera_data in the project]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Fetch anew although the folder is complete
        #[arg(long)]
        force: bool,
    },
    /// Check the rules about the source that neither rustfmt nor clippy knows
    Tidy,
    /// Run everything that must pass before a change is merged
    Ci,
    /// Run the tests that need the reference values kept outside the repository
    Reference {
        /// The folder with golden/, data/ and weights/
        path: PathBuf,
    },
    /// Time the same work here, in PyTorch and in other libraries, side by side
    BenchPeers(bench_peers::Options),
    /// Feed hostile input to everything that reads files, guided by coverage
    Fuzz {
        /// Passed on: --executions N, --target NAME, --seed N, --input FILE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the tests of the crates with unsafe code under AddressSanitizer
    Sanitize,
    /// Lint with CUDA, without a GPU or a toolkit; with --build, build with the toolkit in CUDA_HOME
    CudaCheck(cuda_check::Options),
    /// Lint for Windows and macOS, with Metal, Accelerate and MKL, on any machine with a Unix shell
    Platforms,
    /// Train the small backbone of the built-in sample anew and write it to data/
    PretrainSample {
        /// Passed on to the example that does it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by returning it: that would add a backtrace, of no use to whoever reads this.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::FetchData { from, data, force } => fetch_data(&from, data, force),
        Chore::Tidy => tidy::run(&project::root()),
        Chore::Ci => ci::run(&project::root()),
        Chore::Reference { path } => reference::run(&project::root(), &path),
        Chore::BenchPeers(options) => bench_peers::run(&project::root(), &options),
        Chore::Fuzz { args } => fuzz::run(&project::root(), &args),
        Chore::Sanitize => sanitize::run(&project::root()),
        Chore::CudaCheck(options) => cuda_check::run(&project::root(), &options),
        Chore::Platforms => platforms::run(&project::root()),
        Chore::PretrainSample { args } => cargo::Cargo::new(&project::root())
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

fn fetch_data(from: &str, data: Option<PathBuf>, force: bool) -> Result<()> {
    let start = Instant::now();
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST)?;
    let target = match data {
        Some(folder) => std::path::absolute(&folder)
            .with_context(|| format!("--data {} is no folder name", folder.display()))?,
        None => project::root().join("data").join(manifest.name()),
    };
    let mut options = Options::new(Source::parse(from)?, manifest, target);
    options.force = force;
    let mut progress = Progress::new();
    let outcome = fetch(&options, &mut |event| progress.show(event));
    progress.finish();
    let shown = project::shown(&options.target);
    match outcome? {
        Outcome::AlreadyThere {
            files,
            bytes,
            extra,
        } => {
            println!(
                "{shown} is complete: all {files} files ({:.1} MB) have the right checksum, nothing to do",
                megabytes(bytes)
            );
            for file in extra {
                println!("  left alone, {file}");
            }
        }
        Outcome::Fetched { files, bytes } => println!(
            "{shown} is ready: {files} files ({:.1} MB), all checksums right, in {:.1} s",
            megabytes(bytes),
            start.elapsed().as_secs_f64()
        ),
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
