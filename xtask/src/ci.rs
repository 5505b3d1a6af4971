//! `cargo xtask ci`: everything that must pass before a change is merged.
//!
//! All steps but `standalone` share one target directory, and most select the whole workspace, so that
//! they reuse each other's builds of the dependencies.

use crate::cargo;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use xshell::{Shell, cmd};

/// Expected maximum of the total time on two cores, with a clean build. A longer run prints a
/// warning.
const BUDGET: Duration = Duration::from_secs(20 * 60);

/// The steps, each as the arguments of `cargo`.
const STEPS: [&str; 12] = [
    "fmt --all --check",
    "fmt --check --manifest-path fuzz/Cargo.toml",
    "xtask tidy",
    "deny --locked check",
    "clippy --locked --workspace --all-targets -- -Dwarnings",
    "doc --locked --workspace --no-deps --config build.rustdocflags='-Dwarnings'",
    "test --locked --workspace",
    "xtask examples",
    "xtask reference ../shared",
    "xtask standalone",
    // The fuzz targets are a workspace of their own, which takes the profiles from this one. Without
    // default features it does not compile the fuzzing engine.
    "clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target \
     --config Cargo.toml -- -Dwarnings",
    "xtask cuda-check",
];

/// Runs the steps until one fails, and prints the time of each.
pub fn run(sh: &Shell) -> Result<()> {
    let start = Instant::now();
    let has_deny = cmd!(sh, "cargo deny --version").quiet().ignore_stderr();
    let mut skipped = Vec::new();
    if has_deny.read().is_err() {
        skipped.push("deny");
    }
    if !sh.path_exists("../shared") {
        skipped.push("xtask reference");
    }
    let mut times = Vec::new();
    let mut result = Ok(());
    for step in STEPS {
        if skipped.iter().any(|skipped| step.starts_with(skipped)) {
            println!("skipped: cargo {step}");
            continue;
        }
        let step_start = Instant::now();
        result = cargo(sh, step).run().context("a step failed");
        times.push((step_start.elapsed(), step));
        if result.is_err() {
            break;
        }
    }
    times.push((start.elapsed(), "total"));
    for (time, step) in times {
        println!("{:>8.1} s  {step}", time.as_secs_f64());
    }
    if start.elapsed() > BUDGET {
        println!("warning: longer than the budget of {} s", BUDGET.as_secs());
    }
    result
}
