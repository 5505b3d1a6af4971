//! `cargo xtask ci`: everything that must pass before a change is merged. The fastest steps run
//! first.
//!
//! All steps use one profile and the whole workspace, so that they reuse each other's builds of the
//! dependencies. The exception is the last step, which builds its dependencies in a separate
//! directory with a stub of the CUDA compiler.

use crate::cargo::Cargo;
use crate::{cuda_check, reference, tidy};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Examples that are built but not run, each with the reason.
const NOT_RUN: [(&str, &str); 1] = [(
    "pretrain_sample",
    "training the backbone takes many minutes",
)];

/// Expected maximum of the total time on two cores, with a clean build. A longer run prints a
/// warning.
const BUDGET: Duration = Duration::from_secs(20 * 60);

/// Name of a step and its function, which takes the project's root.
type Step = (&'static str, fn(&Path) -> Result<()>);

const STEPS: [Step; 8] = [
    ("format", |root| {
        Cargo::new(root).args(["fmt", "--all", "--check"]).run()
    }),
    ("tidy", tidy::run),
    ("clippy", |root| {
        Cargo::new(root)
            .args(["clippy", "--locked", "--workspace", "--all-targets"])
            .args(["--", "-D", "warnings"])
            .run()
    }),
    ("documentation", |root| {
        Cargo::new(root)
            .args(["doc", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    }),
    ("tests", |root| {
        // The README's command for running all tests.
        Cargo::new(root)
            .args(tidy::TEST_COMMAND.split(' ').skip(1))
            .run()
    }),
    ("examples", examples),
    ("reference", |root| {
        let folder = root.join(reference::DEFAULT_PATH);
        if folder.is_dir() {
            return reference::run(root, &folder);
        }
        println!("skipped: {} does not exist", reference::DEFAULT_PATH);
        Ok(())
    }),
    ("CUDA", |root| {
        cuda_check::run(root, &cuda_check::Options::default())
    }),
];

/// Runs the steps until one fails, and prints the time of each.
///
/// # Errors
///
/// Returns an error with the name of the step that failed.
pub fn run(root: &Path) -> Result<()> {
    let start = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("=== {name}");
        let step_start = Instant::now();
        let result = step(root).with_context(|| format!("step `{name}` failed"));
        times.push((name, step_start.elapsed()));
        if result.is_err() {
            print_times(&times, start.elapsed());
        }
        result?;
    }
    print_times(&times, start.elapsed());
    Ok(())
}

/// Builds every example, and runs all but those in [`NOT_RUN`] without arguments.
fn examples(root: &Path) -> Result<()> {
    let examples = reference::crate_files(root, "examples")?;
    let programs = Cargo::new(root)
        .args(["build", "--locked", "--workspace", "--examples"])
        .executables()?;
    for (package, example) in examples {
        if let Some((_, reason)) = NOT_RUN.iter().find(|(name, _)| *name == example) {
            println!("--- {package}/{example}: not run ({reason})");
            continue;
        }
        let program = programs
            .iter()
            .find(|path| {
                path.file_stem()
                    .is_some_and(|stem| stem == example.as_str())
            })
            .with_context(|| format!("cargo did not build the example {example} of {package}"))?;
        println!("--- {package}/{example}");
        let status = Command::new(program)
            .current_dir(root)
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        if !status.success() {
            bail!("example {example} of {package} failed ({status})");
        }
    }
    Ok(())
}

fn print_times(times: &[(&str, Duration)], total: Duration) {
    println!("=== seconds");
    for (name, time) in times {
        println!("{:>8.1}  {name}", time.as_secs_f64());
    }
    println!("{:>8.1}  total", total.as_secs_f64());
    if total > BUDGET {
        println!("warning: longer than the budget of {} s", BUDGET.as_secs());
    }
}
