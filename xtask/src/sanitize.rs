//! The workspace's own crates under AddressSanitizer: `cargo xtask sanitize`.
//!
//! A read or write outside of an allocation, or of one that was freed, ends the test that did it. rustc has had the
//! sanitizer for years, but only as an unstable option, which `RUSTC_BOOTSTRAP` lets a stable one take. cargo starts a
//! wrapper for the workspace's crates alone: dependencies stay as they are in any build, and so does the standard
//! library. CONTRIBUTING.md says what of the unsafe code this reaches.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Result, ensure};
use std::path::Path;

/// Started by cargo with rustc and its arguments; the last of two that contradict each other counts. With debug
/// assertions, the standard library's own checks of its unsafe functions are there as well.
const WRAPPER: &str = r#"#!/bin/sh
# rustc with AddressSanitizer, see xtask/src/sanitize.rs.
RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address --cfg waggle_heap -Cdebug-assertions=on -Coverflow-checks=on
"#;

/// The instruction sets of `vgg::kernels::Path`. In place of one that the processor lacks, its best runs again.
const BEST: &str = "amx";
const LESSER: [&str; 3] = ["avx512", "avx2", "portable"];

/// This one runs on every instruction set by itself, and takes the most time.
const EVERY_PATH: &str = "every_instruction_set_agrees_with_the_definition";

/// Runs all unit tests, the golden ones and those of the kernels, the last on each instruction set.
///
/// # Errors
/// When something fails, or the sanitizer finds something.
pub fn run(root: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the kernels and the sanitizer meet on Linux on x86-64 alone"
    );
    let wrapper = script::write(&root.join("target/sanitize"), "rustc", WRAPPER)?;
    let cargo = |path: &str| {
        Cargo::new(root)
            .env("RUSTC_WORKSPACE_WRAPPER", &wrapper)
            .env("WAGGLE_KERNELS", path)
            .args(["test", "--locked", "--workspace"])
            .args(["--test", "kernels", "--test", "device"])
    };
    cargo(BEST).args(["--lib", "--test", "golden"]).run()?;
    for path in LESSER {
        cargo(path).args(["--", "--skip", EVERY_PATH]).run()?;
    }
    Ok(())
}
