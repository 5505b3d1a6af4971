//! `cargo xtask sanitize`: runs the workspace's tests with AddressSanitizer.
//!
//! A test fails if it accesses memory outside of an allocation or after it was freed. The sanitizer
//! is an unstable option of rustc, which `RUSTC_BOOTSTRAP` enables in a stable toolchain. A rustc
//! wrapper applies it only to the workspace's crates, not to dependencies or the standard library.
//! docs/safety.md lists the unsafe code that these tests cover.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Result, ensure};
use std::path::Path;

/// Script that cargo starts with the path of rustc and its arguments. Where two options conflict,
/// rustc uses the last one. Debug assertions also enable the precondition checks of the standard
/// library's unsafe functions.
const WRAPPER: &str = r#"#!/bin/sh
# rustc with AddressSanitizer, see xtask/src/sanitize.rs.
RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address --cfg waggle_heap -Cdebug-assertions=on -Coverflow-checks=on
"#;

/// The most capable `kernels::Isa`. On a CPU without it, the best supported one runs.
const BEST_ISA: &str = "amx";

/// The other instruction sets, from most to least capable.
const OTHER_ISAS: [&str; 3] = ["avx512", "avx2", "portable"];

/// The slowest test. It covers all instruction sets in one run, so it is not repeated for each.
const ALL_ISAS_TEST: &str = "every_instruction_set_matches_the_naive_convolution";

/// Runs the unit tests and the test files `golden` and `layers` once, and the test files `kernels`
/// and `device` with each instruction set.
///
/// # Errors
///
/// Returns an error if a test fails or the sanitizer reports an error.
pub fn run(root: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "this task supports only Linux on x86-64"
    );
    let wrapper = script::write(&root.join("target/sanitize"), "rustc", WRAPPER)?;
    let cargo = |isa: &str| {
        Cargo::new(root)
            .env("RUSTC_WORKSPACE_WRAPPER", &wrapper)
            .env("WAGGLE_KERNELS", isa)
            .args(["test", "--locked", "--workspace"])
            .args(["--test", "kernels", "--test", "device"])
    };
    cargo(BEST_ISA)
        .args(["--lib", "--test", "golden", "--test", "layers"])
        .run()?;
    for isa in OTHER_ISAS {
        cargo(isa).args(["--", "--skip", ALL_ISAS_TEST]).run()?;
    }
    Ok(())
}
