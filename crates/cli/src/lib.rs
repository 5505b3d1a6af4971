//! The program `waggle`: adds the command line, terminal output, files and plots to the library
//! crates.
//!
//! Reading order: [`args`] parses the command line and `commands` runs it. For `train`, `plan`
//! resolves the [`config`] from the arguments or a checkpoint, and `train` runs its stages. `ui`
//! produces the output. `run_dir`, `metrics` and [`plots`] write the files of a run. Of the crates
//! in `crates/`, only this one prints and only this one uses `anyhow`.

pub mod args;
mod bad_images;
mod calibration;
pub mod checkpoint;
mod classifier;
mod commands;
mod compare;
pub mod config;
mod data_source;
mod dataset_hash;
mod decode_limits;
pub mod device;
mod error;
mod escape;
mod fault_injection;
mod files;
mod folds;
pub mod gpu_memory;
mod initial_model;
pub mod label_issues;
pub mod memory;
mod memory_limit;
mod metrics;
mod model_file;
pub mod non_finite_logit;
mod output_path;
mod panic_message;
mod path_list;
mod plan;
pub mod plots;
mod predictions;
mod report;
pub mod run_dir;
mod scores;
mod shell;
mod signals;
mod splits;
mod standard_output;
mod tensorboard;
mod train;
mod ui;
mod weights_file;

pub use classifier::Classifier;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, bail};

/// Runs the program with `arguments`, of which the first is the program name. Errors are printed on
/// standard error.
///
/// Returns 0 for success, 1 for failure and for serious findings of `check`, 2 for a usage error, and
/// 130 or 143 if SIGINT or SIGTERM stopped training. A closed standard output is a failure.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_command(arguments).unwrap_or_else(|error| {
        error::report(&error);
        ExitCode::FAILURE
    })
}

fn run_command(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    panic_message::escape_reports();
    let cli = match args::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap also returns help and version as errors.
            if !error.use_stderr() {
                require_standard_output()?;
                error.print().context("cannot write to standard output")?;
            } else {
                // If standard error is closed, there is nowhere to report the failure.
                let _ = error.print();
            }
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    signals::survive_file_size_limit()?;
    require_standard_output()?;
    commands::run(cli.command)
}

/// Returns an error if standard output is closed, because every command prints its result there.
fn require_standard_output() -> anyhow::Result<()> {
    if standard_output::was_closed() {
        bail!(
            error::Diagnostic::new("standard output is closed")
                .help("redirect it, for example with `> /dev/null`")
        );
    }
    Ok(())
}
