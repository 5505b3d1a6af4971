//! `cargo xtask sanitize`: runs the unit, golden and kernel tests with AddressSanitizer.
//!
//! A test fails if it accesses memory outside of an allocation or after it was freed. The sanitizer
//! is an unstable option of rustc, which `RUSTC_BOOTSTRAP` enables in a stable toolchain. A rustc
//! wrapper applies it only to the workspace's crates, not to dependencies or the standard library.
//! docs/safety.md lists the unsafe code that these tests cover.

use crate::{cargo, script};
use anyhow::{Result, ensure};
use xshell::Shell;

/// Script that cargo starts with the path of rustc and its arguments. Where two options conflict,
/// rustc uses the last one. Debug assertions also enable the precondition checks of the standard
/// library's unsafe functions.
const WRAPPER: &str = r#"#!/bin/sh
# rustc with AddressSanitizer, see xtask/src/sanitize.rs.
RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address --cfg waggle_heap -Cdebug-assertions=on -Coverflow-checks=on
"#;

/// Runs the unit tests and the test files `golden` and `layers` with the best instruction set of the
/// CPU, and the test files `kernels` and `device` with each one.
///
/// # Errors
///
/// Returns an error on other platforms than Linux on x86-64, if a test fails, or if the sanitizer
/// reports an error.
pub fn run(sh: &Shell) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "this task supports only Linux on x86-64"
    );
    let wrapper = script(sh, "target/sanitize", "rustc", WRAPPER)?;
    for (isa, more) in [
        ("amx", "--lib --test golden --test layers"),
        // The slowest test covers all instruction sets itself, so it runs only once.
        (
            "avx512",
            "-- --skip every_instruction_set_matches_the_naive_convolution",
        ),
        (
            "avx2",
            "-- --skip every_instruction_set_matches_the_naive_convolution",
        ),
        (
            "portable",
            "-- --skip every_instruction_set_matches_the_naive_convolution",
        ),
    ] {
        println!("=== WAGGLE_KERNELS={isa}");
        let tests = "test --locked --workspace --test kernels --test device";
        cargo(sh, &format!("{tests} {more}"))
            .env("RUSTC_WORKSPACE_WRAPPER", &wrapper)
            .env("WAGGLE_KERNELS", isa)
            .run()?;
    }
    Ok(())
}
