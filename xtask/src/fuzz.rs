//! Builds the package `fuzz` so that it can see which code an input reaches, and runs it.
//!
//! The instrumentation is LLVM's, and rustc passes it on in every toolchain; with `--target` build scripts and
//! procedural macros stay without it.

use crate::cargo::Cargo;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// A counter for each basic block that tells more than its neighbours.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters";

/// Runs the fuzzer in the project's root with `args`.
///
/// # Errors
/// When it cannot be built, or something crashed.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    Cargo::new(root)
        .args(["run", "--locked", "--profile", "fuzz", "--package", "fuzz"])
        .args(["--target", &host()?, "--"])
        .args(args)
        .env("RUSTFLAGS", INSTRUMENTED)
        .run()
}

/// The triple of the machine that compiles.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    ensure!(output.status.success(), "`rustc -vV` failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
