//! The same work here and in other libraries, in one call: `cargo xtask bench-peers`.
//!
//! Machines differ from day to day and slow down when they are busy, so what counts is the ratio of times taken
//! side by side. For each row (see [`rows`]) all contenders are started, each in a process of its own, so that
//! the kernel's record of its largest memory is that of the row; then they run in turns, in changing order.
//! `xtask/peers/peer.py` is PyTorch, torchvision, ONNX Runtime and OpenVINO; the example `bench_worker` of
//! `cli` is this project, and candle's own operations. Both speak the protocol that is described at the top
//! of the former.

pub mod machine;
pub mod race;
pub mod report;
pub mod rows;
pub mod worker;

use crate::cargo::Cargo;
use anyhow::{Context, Result, bail, ensure};
use machine::Machine;
use race::{Contender, race};
use report::Measured;
use rows::{CANDLE, Device, OURS, Row};
use serde_json::{Map, Value};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Before each turn: a library's idle threads may spin for a while after its own.
const REST: Duration = Duration::from_millis(250);

/// What to install into the Python that is named, from the project's root.
const INSTALL: &str = "python3 -m venv ../peers && ../peers/bin/pip install torch torchvision onnx onnxruntime openvino";

/// What to compare, and how.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A Python with torch and torchvision; onnxruntime and openvino take part if it has them
    #[arg(long, value_name = "PATH")]
    pub python: PathBuf,
    /// What to compare on: without --only it decides the rows, and `cuda` builds with cuDNN
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Only this row, such as 'frozen forward b8'; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Photographs as DIR/{train,val}/CLASS [default: data/hymenoptera_data in the project]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads of each contender [default: all that this process may use]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Turns of each contender; the median counts [default: 1 to 9, by the row]
    #[arg(long, value_name = "N")]
    pub rounds: Option<NonZeroUsize>,
    /// Keep the table, with date and processor, in benches/runs
    #[arg(long)]
    pub save: bool,
}

/// Compares, printing the table to standard output and progress to standard error.
///
/// A row that fails does not end the others.
///
/// # Errors
/// An unknown row, missing photographs, a Python without PyTorch, a failed build; any row that failed.
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
            Device::Cuda => bail!("the row `{name}` runs on a GPU: add --device cuda"),
            Device::Cpu => bail!("the row `{name}` runs on the CPU: leave --device cuda out"),
        }
    }
    let data = match &options.data {
        Some(folder) => folder.clone(),
        None => root.join("data/hymenoptera_data"),
    };
    if let Some(row) = rows.iter().find(|row| row.reads_pictures()) {
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
    let ours = Cargo::new(root)
        .args(["build", "--locked", "--release", "-p", "cli"])
        .args(["--example", "bench_worker"])
        .args(features)
        .executables()?
        .pop()
        .context("cargo built no example bench_worker in cli")?;
    let machine = Machine::here(root, threads, versions)?;
    let machine = match options.device {
        Device::Cpu => machine,
        Device::Cuda => machine.with_gpu(),
    };

    let contender = |row: &Row, name: &str| {
        let mut command = if [OURS, CANDLE].contains(&name) {
            Command::new(&ours)
        } else {
            let mut python = Command::new(&options.python);
            python.arg(&peer);
            python
        };
        command.args([row.name(), name, &threads.to_string()]);
        if row.reads_pictures() {
            command.arg(&data);
        }
        // candle sizes its own pools by this.
        command.env("RAYON_NUM_THREADS", threads.to_string());
        // A row's name says whether f32 is rounded to TF32, and each contender heeds it.
        command.env_remove("NVIDIA_TF32_OVERRIDE");
        // Only the end of what a failed process says is shown: that must be the reason.
        command.env("RUST_BACKTRACE", "0");
        Contender::new(name, command)
    };
    let (mut measured, mut failures) = (Vec::new(), Vec::new());
    for row in &rows {
        let rounds = options.rounds.map_or(row.rounds(), usize::from);
        let contenders = row.contenders().map(|name| contender(row, name)).collect();
        eprintln!("{}: getting ready", row.name());
        let result = race(contenders, rounds, row.runs(), REST, &mut |round| {
            eprintln!("{}: round {round} of {rounds}", row.name());
        });
        match result.and_then(|result| Measured::new(row, result)) {
            Ok(row) => measured.push(row),
            Err(error) => {
                eprintln!("{}: failed: {error:#}", row.name());
                failures.push(row.name());
            }
        }
        // After each row: whoever loses patience keeps what there is.
        write_json(options.json.as_deref(), &measured)?;
    }
    if !measured.is_empty() {
        println!("{}", report::table(&measured));
        print!("{machine}");
    }
    if options.save && !measured.is_empty() {
        let path = save(&root.join("benches/runs"), &machine, &measured)?;
        println!("kept in {}", crate::project::shown(&path));
    }
    if !failures.is_empty() {
        bail!("rows that failed: {}", failures.join(", "));
    }
    Ok(())
}

fn check_data(data: &Path, row: &Row) -> Result<()> {
    for split in ["train", "val"] {
        ensure!(
            data.join(split).is_dir(),
            "the row `{}` needs photographs, and there is no folder {}: run `cargo xtask fetch-data`, name \
             another with --data DIR, or choose other rows with --only NAME",
            row.name(),
            data.join(split).display()
        );
    }
    Ok(())
}

/// The versions of what the Python has, PyTorch among it.
fn versions(python: &Path, peer: &Path) -> Result<Map<String, Value>> {
    let output = Command::new(python)
        .arg(peer)
        .arg("versions")
        .output()
        .with_context(|| {
            format!(
                "cannot run {}: --python names a Python with PyTorch. To make one: {INSTALL}",
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
        .with_context(|| format!("{} printed no JSON", peer.display()))?;
    for package in ["torch", "torchvision"] {
        ensure!(
            versions.contains_key(package),
            "{} has no {package}. Install it there, or make another Python: {INSTALL}",
            python.display()
        );
    }
    Ok(versions)
}

fn write_json(path: Option<&Path>, measured: &[Measured]) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    fs::write(path, report::json(measured))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the table and the figures behind it into `folder`, under a name that is free; returns the table's path.
fn save(folder: &Path, machine: &Machine, measured: &[Measured]) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stem = machine.file_stem();
    let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
    let path = names
        .map(|name| folder.join(name + ".md"))
        .find(|path| !path.exists())
        .context("every file name is taken")?;
    let text = format!("{machine}\n{}", report::table(measured));
    let json = path.with_extension("json");
    write_json(Some(&json), measured)?;
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

    /// An executable that answers `versions` with `json`.
    fn python(folder: &Path, json: &str) -> PathBuf {
        let script = format!("#!/bin/sh\necho '{json}'\n");
        crate::script::write(folder, "python", &script).unwrap()
    }

    fn refusal(python: &Path, more: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        format!(
            "{:#}",
            run(root.path(), &options(python, more)).unwrap_err()
        )
    }

    #[test]
    fn a_python_without_pytorch_is_refused_with_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let only = ["--only", "stage-2 step b32"];
        let python = python(folder.path(), r#"{"python": "3.12", "torch": "2.15"}"#);
        let message = refusal(&python, &only);
        assert!(
            message.contains("has no torchvision") && message.contains("pip install torch"),
            "{message}"
        );
        let message = refusal(&folder.path().join("absent"), &only);
        assert!(
            message.contains("cannot run") && message.contains("pip install torch"),
            "{message}"
        );
    }

    #[test]
    fn rows_that_read_pictures_need_some() {
        let folder = tempfile::tempdir().unwrap();
        let python = python(folder.path(), "{}");
        let message = refusal(&python, &["--only", "loader train cached"]);
        assert!(
            message.contains("`loader train cached` needs photographs")
                && message.contains("fetch-data"),
            "{message}"
        );
        assert!(refusal(&python, &["--only", "stage-2 step b32"]).contains("has no torch"));
    }

    #[test]
    fn a_row_of_another_device_is_refused_with_what_to_add() {
        let python = Path::new("python3");
        let on_gpu = refusal(python, &["--only", "cuda stage-2 step bf16 b32"]);
        assert!(on_gpu.contains("add --device cuda"), "{on_gpu}");
        let on_cpu = refusal(python, &["--device", "cuda", "--only", "stage-2 step b32"]);
        assert!(on_cpu.contains("leave --device cuda out"), "{on_cpu}");
    }

    #[test]
    fn an_unknown_row_is_refused() {
        let message = refusal(Path::new("python3"), &["--only", "forward"]);
        assert!(
            message.contains("no row `forward`") && message.contains("two-stage recipe"),
            "{message}"
        );
    }

    #[test]
    fn runs_are_kept_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::here(folder.path(), 2, Map::new()).unwrap();
        let first = save(folder.path(), &machine, &[]).unwrap();
        let second = save(folder.path(), &machine, &[]).unwrap();
        assert_ne!(first, second);
        assert!(first.exists() && second.with_extension("json").exists());
    }
}
