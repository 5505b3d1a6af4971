//! The crates with unsafe code under AddressSanitizer: `cargo xtask sanitize`.
//!
//! A read or write outside of an allocation, or of one that was freed, ends the test that did it. rustc has had the
//! sanitizer for years, but only as an unstable option: `RUSTC_BOOTSTRAP` lets a stable one take it. The standard
//! library stays as it is. CONTRIBUTING.md says what of the unsafe code this reaches.

use crate::cargo::Cargo;
use anyhow::Result;
use std::path::Path;

/// Where the sanitizer exists and the vector kernels too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The instruction sets of `vgg::kernels::Path`, the best first: one that the processor lacks is the best again.
const PATHS: [&str; 4] = ["amx", "avx512", "avx2", "portable"];

/// This one runs on every instruction set by itself, and takes the most time.
const EVERY_PATH: &str = "every_instruction_set_agrees_with_the_definition";

/// Runs their tests, once for each instruction set.
///
/// # Errors
/// When something fails, or the sanitizer finds something.
pub fn run(root: &Path) -> Result<()> {
    cargo(root, "amx").args(["--", EVERY_PATH]).run()?;
    for path in PATHS {
        cargo(root, path).args(["--", "--skip", EVERY_PATH]).run()?;
    }
    Ok(())
}

/// `cargo test` with the sanitizer, on an instruction set. The profile keeps it apart from other builds.
fn cargo(root: &Path, path: &str) -> Cargo {
    Cargo::new(root)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("WAGGLE_KERNELS", path)
        .args(["test", "--locked", "--profile", "sanitize"])
        .args([
            "--target", TARGET, "-p", "vgg", "-p", "dataset", "-p", "trainer",
        ])
        .args([
            "--lib", "--test", "kernels", "--test", "device", "--test", "golden",
        ])
}
