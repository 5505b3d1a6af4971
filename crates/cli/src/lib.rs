//! The program `waggle`: command line, terminal, files and pictures around the library crates.
//!
//! Read it in this order: [`args`] is what can be typed, [`config`] what that means once data and weights
//! are known, [`commands`] what is then done. [`adapters`] joins the libraries, which do not know each
//! other; [`message`] and [`render`] are what the user sees, [`run_dir`], [`metrics`] and [`plots`] what
//! stays on disk. This is the only crate that prints and the only one with `anyhow`.

pub mod adapters;
pub mod args;
pub mod bad_pictures;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod data_source;
pub mod device;
pub mod divergence;
pub mod error;
mod fault;
pub mod fingerprint;
pub mod gpu_memory;
pub mod interrupt;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod model_file;
pub mod plots;
pub mod render;
pub mod resume;
pub mod run_dir;
pub mod splits;
pub mod start;
pub mod typed;
pub mod values;
pub mod watch;
pub mod weights_file;
pub mod words;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// Runs the program: parses `arguments` (the first is the program's name), does what they say, and reports
/// what went wrong on standard error.
///
/// Returns 0 when done, 1 when it failed, 2 for wrong usage, 130 or 143 when SIGINT or SIGTERM ended a training.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match typed::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; that nobody reads them is no reason to fail.
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

/// Whether the reader of standard output has closed it, as in `waggle predict … | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
