//! `cargo xtask bench-peers`: compares the speed and memory of this project with other libraries.
//!
//! Times on a shared machine vary, so only ratios of times measured together are meaningful. Each
//! row of the table (see [`rows`]) is one workload. Every library runs it in its own worker
//! process, so the peak memory recorded by the kernel is that of a single row. The workers take
//! turns, in alternating order.
//!
//! `xtask/peers/peer.py` runs PyTorch, torchvision, ONNX Runtime and OpenVINO. The example
//! `bench_worker` of `cli` runs this project and plain candle. The header of `peer.py` describes
//! the protocol.

pub mod machine;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod worker;

use crate::cargo::Cargo;
use anyhow::{Context, Result, bail, ensure};
use machine::Machine;
use report::RowResult;
use rounds::{WorkerCommand, run_rounds};
use rows::{CANDLE, Device, OURS, Row};
use serde_json::{Map, Value};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Pause before each turn, because idle threads of the previous library may still spin.
const PAUSE: Duration = Duration::from_millis(250);

/// Commands that create a suitable Python environment, to be run in the project's root.
const INSTALL: &str = "python3 -m venv ../peers && ../peers/bin/pip install torch torchvision onnx onnxruntime openvino";

/// Options of `cargo xtask bench-peers`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Python with torch and torchvision, and optionally onnxruntime and openvino
    #[arg(long, value_name = "PATH")]
    pub python: PathBuf,
    /// Device to measure on; `cuda` builds with cuDNN
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Measure only this row, such as 'frozen forward b8' (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Write the results to this JSON file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Photographs in DIR/{train,val}/CLASS [default: data/hymenoptera_data in the project]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads of each worker [default: the available parallelism]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Turns of each worker; the median is reported [default: 1 to 9, depending on the row]
    #[arg(long, value_name = "N")]
    pub rounds: Option<NonZeroUsize>,
    /// Save the table in benches/runs, with the date and the machine
    #[arg(long)]
    pub save: bool,
}

/// Measures the rows. Prints the table to standard output and progress to standard error.
///
/// If a row fails, the others are still measured.
///
/// # Errors
///
/// Returns an error for an unknown row, a row for another device, missing photographs, a Python
/// without PyTorch or torchvision, a failed build, a failed row, or a file that cannot be written.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let rows = match options.only.as_slice() {
        [] => Row::all(options.device),
        names => names
            .iter()
            .map(|name| Row::parse(name))
            .collect::<Result<_>>()?,
    };
    if let Some(row) = rows.iter().find(|row| row.device() != options.device) {
        let name = row.name();
        match row.device() {
            Device::Cuda => bail!("the row `{name}` runs on a GPU: pass --device cuda"),
            Device::Cpu => bail!("the row `{name}` runs on the CPU: remove --device cuda"),
        }
    }
    let data = match &options.data {
        Some(folder) => folder.clone(),
        None => root.join("data/hymenoptera_data"),
    };
    if let Some(row) = rows.iter().find(|row| row.reads_images()) {
        check_data(&data, row)?;
    }
    let threads = match options.threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let peer = root.join("xtask/peers/peer.py");
    let versions = versions(&options.python, &peer)?;
    write_json(options.json.as_deref(), &[])?;
    let features: &[&str] = match options.device {
        Device::Cpu => &[],
        Device::Cuda => &["--features", "cudnn"],
    };
    let bench_worker = Cargo::new(root)
        .args(["build", "--locked", "--release", "-p", "cli"])
        .args(["--example", "bench_worker"])
        .args(features)
        .executables()?
        .pop()
        .context("cargo did not build the example bench_worker of cli")?;
    let machine = Machine::detect(root, threads, versions)?;
    let machine = match options.device {
        Device::Cpu => machine,
        Device::Cuda => machine.with_gpu(),
    };

    let worker_command = |row: &Row, name: &str| {
        let mut command = if [OURS, CANDLE].contains(&name) {
            Command::new(&bench_worker)
        } else {
            let mut python = Command::new(&options.python);
            python.arg(&peer);
            python
        };
        command.args([row.name(), name, &threads.to_string()]);
        if row.reads_images() {
            command.arg(&data);
        }
        // candle's thread pools read this variable.
        command.env("RAYON_NUM_THREADS", threads.to_string());
        // The row decides whether f32 is rounded to TF32, not the environment.
        command.env_remove("NVIDIA_TF32_OVERRIDE");
        // Only the last lines of a failed process are shown; a backtrace would hide the message.
        command.env("RUST_BACKTRACE", "0");
        WorkerCommand::new(name, command)
    };
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    for row in &rows {
        let rounds = options.rounds.map_or(row.rounds(), usize::from);
        let commands = row
            .workers()
            .map(|name| worker_command(row, name))
            .collect();
        eprintln!("{}: setting up", row.name());
        let outcome = run_rounds(commands, rounds, row.runs(), PAUSE, &mut |round| {
            eprintln!("{}: round {round} of {rounds}", row.name());
        });
        match outcome.and_then(|outcome| RowResult::new(row, outcome)) {
            Ok(result) => results.push(result),
            Err(error) => {
                eprintln!("{}: failed: {error:#}", row.name());
                failures.push(row.name());
            }
        }
        // Write the results after each row, so that an interrupted run keeps them.
        write_json(options.json.as_deref(), &results)?;
    }
    if !results.is_empty() {
        println!("{}", report::table(&results));
        print!("{machine}");
    }
    if options.save && !results.is_empty() {
        let path = save(&root.join("benches/runs"), &machine, &results)?;
        println!("saved in {}", crate::project::relative(&path));
    }
    if !failures.is_empty() {
        bail!("failed rows: {}", failures.join(", "));
    }
    Ok(())
}

fn check_data(data: &Path, row: &Row) -> Result<()> {
    for split in ["train", "val"] {
        ensure!(
            data.join(split).is_dir(),
            "the row `{}` needs photographs, but {} is not a directory: run `cargo xtask fetch-data`, or pass \
             another directory with --data",
            row.name(),
            data.join(split).display()
        );
    }
    Ok(())
}

/// Versions of the Python packages. PyTorch and torchvision are required.
fn versions(python: &Path, peer: &Path) -> Result<Map<String, Value>> {
    let output = Command::new(python)
        .arg(peer)
        .arg("versions")
        .output()
        .with_context(|| {
            format!(
                "cannot run {}: --python must be a Python with PyTorch. Create one with: {INSTALL}",
                python.display()
            )
        })?;
    ensure!(
        output.status.success(),
        "{} {} versions failed ({}): {}",
        python.display(),
        peer.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let versions: Map<String, Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} did not print JSON", peer.display()))?;
    for package in ["torch", "torchvision"] {
        ensure!(
            versions.contains_key(package),
            "{} has no {package}. Install it, or create another environment: {INSTALL}",
            python.display()
        );
    }
    Ok(versions)
}

fn write_json(path: Option<&Path>, results: &[RowResult]) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    fs::write(path, report::json(results))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the table and the JSON results to new files in `folder`. Returns the path of the table.
fn save(folder: &Path, machine: &Machine, results: &[RowResult]) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let stem = machine.file_stem();
    let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
    let path = names
        .map(|name| folder.join(name + ".md"))
        .find(|path| !path.exists())
        .context("found no unused file name")?;
    let text = format!("{machine}\n{}", report::table(results));
    let json = path.with_extension("json");
    write_json(Some(&json), results)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn options(python: &Path, more: &[&str]) -> Options {
        use clap::Parser;
        #[derive(Parser)]
        struct Program {
            #[command(flatten)]
            options: Options,
        }
        let python = python.to_str().unwrap();
        Program::parse_from([&["bench-peers", "--python", python], more].concat()).options
    }

    /// Writes a script that prints `json`.
    fn python(folder: &Path, json: &str) -> PathBuf {
        let script = format!("#!/bin/sh\necho '{json}'\n");
        crate::script::write(folder, "python", &script).unwrap()
    }

    fn error_message(python: &Path, more: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        format!(
            "{:#}",
            run(root.path(), &options(python, more)).unwrap_err()
        )
    }

    #[test]
    fn a_python_without_pytorch_is_an_error_with_the_install_command() {
        let folder = tempfile::tempdir().unwrap();
        let only = ["--only", "stage-2 step b32"];
        let python = python(folder.path(), r#"{"python": "3.12", "torch": "2.15"}"#);
        let message = error_message(&python, &only);
        assert!(
            message.contains("has no torchvision") && message.contains("pip install torch"),
            "{message}"
        );
        let message = error_message(&folder.path().join("absent"), &only);
        assert!(
            message.contains("cannot run") && message.contains("pip install torch"),
            "{message}"
        );
    }

    #[test]
    fn rows_that_read_images_need_a_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let python = python(folder.path(), "{}");
        let message = error_message(&python, &["--only", "loader train cached"]);
        assert!(
            message.contains("`loader train cached` needs photographs")
                && message.contains("fetch-data"),
            "{message}"
        );
        assert!(error_message(&python, &["--only", "stage-2 step b32"]).contains("has no torch"));
    }

    #[test]
    fn a_row_of_another_device_is_an_error_with_the_flag_to_change() {
        let python = Path::new("python3");
        let on_gpu = error_message(python, &["--only", "cuda stage-2 step bf16 b32"]);
        assert!(on_gpu.contains("pass --device cuda"), "{on_gpu}");
        let on_cpu = error_message(python, &["--device", "cuda", "--only", "stage-2 step b32"]);
        assert!(on_cpu.contains("remove --device cuda"), "{on_cpu}");
    }

    #[test]
    fn an_unknown_row_is_an_error_that_lists_the_rows() {
        let message = error_message(Path::new("python3"), &["--only", "forward"]);
        assert!(
            message.contains("unknown row `forward`") && message.contains("two-stage recipe"),
            "{message}"
        );
    }

    #[test]
    fn saving_does_not_overwrite_an_earlier_run() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::detect(folder.path(), 2, Map::new()).unwrap();
        let first = save(folder.path(), &machine, &[]).unwrap();
        let second = save(folder.path(), &machine, &[]).unwrap();
        assert_ne!(first, second);
        assert!(first.exists() && second.with_extension("json").exists());
    }
}
