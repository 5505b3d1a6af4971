//! What each command does, one file each.

mod check;
mod evaluate;
mod export;
mod predict;
mod show;
mod summary;
mod train;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use candle_core::Device;

use crate::args::{Command, MachineArgs};
use crate::device;

/// Does what `command` says.
///
/// # Errors
///
/// Whatever went wrong, with what to do next.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Summary(args) => summary::run(&args),
    }
}

/// Sets how many threads compute, for rayon's shared pool that all crates use, and returns it.
///
/// The default is what this process may use: `available_parallelism` honours CPU affinity and the limits of
/// containers.
fn start_threads(machine: &MachineArgs) -> anyhow::Result<usize> {
    let threads = match machine.threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    // A second call in one process, as in tests, finds the pool already built; that is no error.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    Ok(rayon::current_num_threads())
}

/// Opens the device; that it is not the GPU that the program was built for goes to standard error.
fn open_device(machine: &MachineArgs) -> anyhow::Result<Device> {
    let opened = device::open(machine)?;
    if let Some(why) = &opened.fallback {
        warn(&format!("warning: computing on the CPU, {why}"));
    }
    Ok(opened.device)
}

/// Refuses to replace what is there, unless `overwrite` asks for it: as little is lost by accident here as in `train`,
/// which never overwrites a run. `option` names another place. An empty folder is nothing that could be lost.
fn keep_existing(path: &Path, overwrite: bool, option: &str) -> anyhow::Result<()> {
    let is_empty = || {
        path.read_dir()
            .is_ok_and(|mut entries| entries.next().is_none())
    };
    if !overwrite && path.symlink_metadata().is_ok() && !is_empty() {
        bail!(
            "{} exists already; replace it with --overwrite, or choose another place with {option}",
            path.display()
        );
    }
    Ok(())
}

/// Writes to standard output; that nobody reads it is told apart in [`crate::run`].
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Writes to standard error, if anybody reads it.
fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
