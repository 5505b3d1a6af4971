//! The subcommands.

mod check;
mod compare;
mod evaluate;
mod explain;
mod export;
mod image_errors;
mod install;
mod labels;
mod predict;
mod predict_inputs;
mod report;
mod show;
mod summary;
mod train;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use candle_core::Device;
use indicatif::{ProgressBar, ProgressStyle};
use vgg::kernels::Isa;

use crate::args::{Command, MachineArgs};
use crate::device;
use crate::error::{Diagnostic, warn};

/// Runs a command and returns the exit code.
///
/// # Errors
///
/// Returns an error if the command fails.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Labels(args) => labels::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Completions(args) => install::completions(&args),
        Command::Man(args) => install::man(&args),
    }
}

/// Checks `WAGGLE_KERNELS`, starts the compute threads and opens the device chosen by `--device`. With
/// `auto`, prints a warning if the program was built for a GPU that cannot be used.
fn open_device(machine: &MachineArgs) -> anyhow::Result<Device> {
    Isa::selected()?;
    device::start_threads(machine.threads)?;
    let opened = device::open(machine.device, machine.precision)?;
    if let Some(why) = &opened.fallback {
        warn(Diagnostic::new(format!("computing on the CPU: {why}")));
    }
    Ok(opened.device)
}

/// Returns an error if `path`, the value of `flag`, exists, unless it is an empty folder or `overwrite`
/// is true.
fn check_overwrite(path: &Path, overwrite: bool, flag: &str) -> anyhow::Result<()> {
    let is_empty = || {
        path.read_dir()
            .is_ok_and(|mut entries| entries.next().is_none())
    };
    if !overwrite && path.symlink_metadata().is_ok() && !is_empty() {
        bail!(
            Diagnostic::new(format!("`{}` already exists", path.display())).help(format!(
                "pass another path with `{flag}`, or `--overwrite` to replace it"
            ))
        );
    }
    Ok(())
}

/// A progress bar over images on standard error, if that is a terminal. Its message is a verb.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg} {wide_bar:.cyan/black.bright} {pos}/{len}  {eta} left")
            .expect("the template is valid")
            .progress_chars("━━╌"),
    );
    // The tick needs a thread.
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(500));
    }
    bar
}

/// Writes text to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output.
fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
