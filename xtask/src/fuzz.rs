//! `cargo xtask fuzz`: builds the package `fuzz` with coverage instrumentation and runs it.
//!
//! Even stable rustc passes instrumentation options on to LLVM. With `--target`, build scripts and
//! procedural macros are not instrumented.

use crate::cargo::Cargo;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Inserts an 8-bit counter into each basic block, except where LLVM can infer it from neighboring
/// blocks.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters";

/// Runs the fuzzer in the project's root with `args`.
///
/// # Errors
///
/// Returns an error if the build fails or an input crashes.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    Cargo::new(root)
        .args(["run", "--locked", "--profile", "fuzz", "--package", "fuzz"])
        .args(["--target", &host()?, "--"])
        .args(args)
        .env("RUSTFLAGS", INSTRUMENTED)
        .run()
}

/// Target triple of the host.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    ensure!(output.status.success(), "`rustc -vV` failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` printed no host")?.to_owned())
}
