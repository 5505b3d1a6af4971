//! The subcommands.

mod check;
mod compare;
mod evaluate;
mod evaluation;
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
use crate::files::{existing_folder, parent};

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

/// Checks that the value of `flag`, the output file `path`, can be created, or replaced if `overwrite`
/// is true.
///
/// # Errors
///
/// Returns an error if `path` exists and is not a regular file, because it would be replaced by one. A
/// link is refused even to a regular file, because its target would stay unchanged. Also returns an
/// error if the file exists and `overwrite` is false, if an ancestor is not a folder, or if `path` is
/// `-`.
fn check_output_file(path: &Path, overwrite: bool, flag: &str) -> anyhow::Result<()> {
    let other = || format!("pass another path with `{flag}`");
    let shown = path.display();
    if path == Path::new("-") {
        bail!(
            Diagnostic::new(format!("`{flag} -` does not stand for standard output"))
                .help(format!("{}, such as `./-` for a file named `-`", other()))
        );
    }
    existing_folder(parent(path)).map_err(|error| {
        let error = Diagnostic::new(format!("cannot write {shown}")).caused_by(error);
        error.help(other())
    })?;
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        return refuse_existing(path, overwrite, flag);
    }
    let kind = match (kind.is_symlink(), kind.is_dir()) {
        (true, _) => "a symbolic link",
        (_, true) => "a folder",
        _ => "a device, pipe or socket",
    };
    let message = format!("the output `{shown}` is {kind}, not a regular file");
    bail!(Diagnostic::new(message).help(other()))
}

/// Checks that the files `names` can be created in the folder `path`, the value of `flag`, or replaced
/// if `overwrite` is true.
///
/// # Errors
///
/// Returns an error if the folder is not empty and `overwrite` is false, if `path` exists and is not a
/// folder, and the errors of [`check_output_file`].
fn check_output_folder(
    path: &Path,
    names: &[&str],
    overwrite: bool,
    flag: &str,
) -> anyhow::Result<()> {
    let entries = path.read_dir();
    if entries.is_ok_and(|mut entries| entries.next().is_some()) {
        refuse_existing(path, overwrite, flag)?;
    }
    let mut files = names.iter().map(|name| path.join(name));
    files.try_for_each(|file| check_output_file(&file, overwrite, flag))
}

fn refuse_existing(path: &Path, overwrite: bool, flag: &str) -> anyhow::Result<()> {
    if overwrite {
        return Ok(());
    }
    let help = format!("pass another path with `{flag}`, or `--overwrite` to replace it");
    bail!(Diagnostic::new(format!("`{}` already exists", path.display())).help(help))
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
