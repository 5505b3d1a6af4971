//! `cargo xtask ci`: everything that must pass before a change is merged.
//!
//! Most steps use one profile and the whole workspace, so that they reuse each other's builds of
//! the dependencies. Three steps build or check their own copies: the packages of [`standalone`] and
//! the fuzz targets are workspaces of their own, and the CUDA lints need other features.

use crate::{cargo, cuda_check, reference, standalone, tidy};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::{Duration, Instant};
use xshell::{Shell, cmd};

/// Expected maximum of the total time on two cores, with a clean build. A longer run prints a
/// warning.
const BUDGET: Duration = Duration::from_secs(20 * 60);

/// Name of a step and its function.
type Step = (&'static str, fn(&Shell) -> Result<()>);

const STEPS: [Step; 11] = [
    ("format", |sh| {
        cargo(sh, "fmt --all --check").run()?;
        Ok(cargo(sh, "fmt --manifest-path fuzz/Cargo.toml --check").run()?)
    }),
    ("tidy", tidy::run),
    ("licenses and advisories", |sh| {
        if cmd!(sh, "cargo deny --version")
            .quiet()
            .ignore_stderr()
            .read()
            .is_err()
        {
            println!("skipped: cargo-deny is not installed");
            return Ok(());
        }
        Ok(cargo(sh, "deny --locked check").run()?)
    }),
    ("clippy", |sh| {
        let clippy = "clippy --locked --workspace --all-targets -- -D warnings";
        Ok(cargo(sh, clippy).run()?)
    }),
    ("documentation", |sh| {
        let doc = cargo(sh, "doc --locked --workspace --no-deps");
        Ok(doc.env("RUSTDOCFLAGS", "-D warnings").run()?)
    }),
    ("tests", |sh| {
        Ok(cargo(sh, "test --locked --workspace").run()?)
    }),
    ("examples", examples),
    ("standalone crates", standalone::run),
    ("reference", |sh| {
        if sh.path_exists(reference::DEFAULT_PATH) {
            return reference::run(sh, &sh.current_dir().join(reference::DEFAULT_PATH));
        }
        println!("skipped: {} does not exist", reference::DEFAULT_PATH);
        Ok(())
    }),
    ("fuzz targets", |sh| {
        let clippy = "clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz";
        // Lints need no engine: with this variable, the build script does not compile it. rustc
        // only requires that the archive exists.
        let engine = sh.current_dir().join("target/fuzz/libfuzzer.a");
        sh.write_file(&engine, "!<arch>\n")?;
        let cargo = cargo(sh, clippy).env("CUSTOM_LIBFUZZER_PATH", engine);
        Ok(cargo.args(["--", "-D", "warnings"]).run()?)
    }),
    ("CUDA", |sh| {
        cuda_check::run(sh, &cuda_check::Options::default())
    }),
];

/// Runs the steps until one fails, and prints the time of each.
///
/// # Errors
///
/// Returns an error with the name of the step that failed.
pub fn run(sh: &Shell) -> Result<()> {
    let start = Instant::now();
    let mut times = Vec::new();
    let mut result = Ok(());
    for (name, step) in STEPS {
        println!("=== {name}");
        let step_start = Instant::now();
        result = step(sh).with_context(|| format!("step `{name}` failed"));
        times.push((name, step_start.elapsed()));
        if result.is_err() {
            break;
        }
    }
    times.push(("total", start.elapsed()));
    println!("=== seconds");
    for (name, time) in times {
        println!("{:>8.1}  {name}", time.as_secs_f64());
    }
    if start.elapsed() > BUDGET {
        println!("warning: longer than the budget of {} s", BUDGET.as_secs());
    }
    result
}

/// Builds every example, and runs those of one file without arguments, except `pretrain_sample`,
/// which takes many minutes.
fn examples(sh: &Shell) -> Result<()> {
    cargo(sh, "build --locked --workspace --examples").run()?;
    let target = sh
        .var_os("CARGO_TARGET_DIR")
        .unwrap_or_else(|| "target".into());
    let programs = sh.current_dir().join(target).join("debug/examples");
    for package in sh.read_dir("crates")? {
        let folder = package.join("examples");
        let files = if folder.is_dir() {
            sh.read_dir(folder)?
        } else {
            Vec::new()
        };
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        {
            let name = Path::new(file.file_stem().unwrap_or_default());
            if name != Path::new("pretrain_sample") {
                sh.cmd(programs.join(name)).run()?;
            }
        }
    }
    Ok(())
}
