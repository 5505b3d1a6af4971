//! `cargo xtask platforms`: lints the workspace for Windows and macOS on a Unix system.
//!
//! Lints need no linker, but the build scripts of two dependencies compile C code. Stubs that write
//! empty files replace the C compiler and the archiver. These lints use a separate target
//! directory, because the empty files must never get into a program. Platform-specific features are
//! linted too, but not Metal's shaders, which are compiled when a program starts.

use crate::{cargo, compiler_stub};
use anyhow::{Result, ensure};
use std::path::Path;
use xshell::{Shell, cmd};

/// Targets to lint, each with its features.
const LINTED: [(&str, &str); 3] = [
    ("x86_64-pc-windows-msvc", ""),
    ("aarch64-apple-darwin", ""),
    ("aarch64-apple-darwin", "metal,accelerate"),
];

/// Lints the workspace for each target. On x86-64 Linux, also lints it with the feature `mkl`.
///
/// # Errors
///
/// Returns an error if a lint fails, if a target's standard library is not installed, or on Windows.
pub fn run(sh: &Shell) -> Result<()> {
    ensure!(
        cfg!(unix),
        "the compiler stub is a shell script, which does not run on Windows; use cargo clippy there"
    );
    for (target, _) in LINTED {
        let folder = cmd!(sh, "rustc --print target-libdir --target {target}")
            .quiet()
            .read()?;
        ensure!(
            Path::new(&folder).is_dir(),
            "the standard library for {target} is not installed; run `rustup target add {target}`"
        );
    }
    let folder = "target/platforms";
    let stub = compiler_stub(sh, folder)?;
    let clippy = format!("clippy --locked --workspace --all-targets --target-dir {folder}");
    for (target, features) in LINTED {
        println!("=== {target} {features}");
        let mut clippy = cargo(sh, &clippy).args(["--target", target, "--features", features]);
        for tool in ["CC", "CXX", "AR"] {
            clippy = clippy.env(format!("{tool}_{}", target.replace('-', "_")), &stub);
        }
        clippy.args(["--", "-D", "warnings"]).run()?;
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        // No stubs here: the build script itself contains C code, which has to work. A missing MKL
        // fails only at link time.
        cargo(sh, &format!("{clippy} --features mkl -- -D warnings")).run()?;
    }
    Ok(())
}
