//! The program `waggle`: adds the command line, terminal output, files and plots to the library
//! crates.
//!
//! Reading order: [`args`] parses the command line and `commands` runs it. For `train`, `plan`
//! resolves the [`config`] from the arguments or a checkpoint, and `train` runs its stages. `ui`
//! produces the output. `run_dir`, `metrics` and [`plots`] write the files of a run. Of the crates
//! in `crates/`, only this one prints and only this one uses `anyhow`.

pub mod args;
mod bad_images;
pub mod checkpoint;
mod classifier;
mod commands;
pub mod config;
mod data_source;
mod dataset_hash;
pub mod device;
mod error;
mod fault_injection;
pub mod gpu_memory;
mod initial_model;
pub mod memory;
mod memory_limits;
mod metrics;
mod model_file;
pub mod non_finite_logit;
mod panic_message;
mod paths;
mod plan;
pub mod plots;
mod run_dir;
mod shell;
mod signals;
mod splits;
mod train;
mod ui;
mod weights_file;

pub use classifier::Classifier;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// Runs the program with `arguments`, of which the first is the program name. Errors are printed on
/// standard error.
///
/// Returns 0 for success and for a closed output pipe, 1 for failure and for serious findings of
/// `check`, 2 for a usage error, and 130 or 143 if SIGINT or SIGTERM stopped training.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap also returns help and version as errors. A closed pipe is ignored.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            error::report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether `error` means that the reader closed the pipe, as in `waggle predict … | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
