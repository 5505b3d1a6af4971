//! Everything that must pass before a change is merged, in the order of what fails soonest.
//!
//! One profile and always the whole workspace, so that all steps share one build of the dependencies; but for the
//! last, whose dependencies have CUDA's stand-ins in them.

use crate::cargo::Cargo;
use crate::{cuda_check, reference, tidy};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Examples that are built but not run, each with its reason.
const NOT_RUN: [(&str, &str); 1] = [(
    "pretrain_sample",
    "trains the sample's backbone for many minutes",
)];

/// The longest time all of it should take, on two cores and from nothing.
const BUDGET: Duration = Duration::from_secs(20 * 60);

/// A step: what it is called, and what it does in the project's root.
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
        // The README's command, word for word.
        Cargo::new(root)
            .args(tidy::TEST_COMMAND.split(' ').skip(1))
            .run()
    }),
    ("examples", examples),
    ("reference", |root| {
        let folder = root.join(reference::USUAL_PLACE);
        if folder.is_dir() {
            return reference::run(root, &folder);
        }
        println!("skipped: there is no {}", reference::USUAL_PLACE);
        Ok(())
    }),
    ("CUDA", |root| {
        cuda_check::run(root, &cuda_check::Options::default())
    }),
];

/// Runs all steps, the first failure ending them, and prints how long each took.
///
/// # Errors
/// When a step fails, named.
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

/// Builds every example and runs it without arguments: what the documentation shows must work.
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
            .with_context(|| format!("cargo built no example {example} in {package}"))?;
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
    println!("{:>8.1}  together", total.as_secs_f64());
    if total > BUDGET {
        println!("That is over the budget of {} s.", BUDGET.as_secs());
    }
}
