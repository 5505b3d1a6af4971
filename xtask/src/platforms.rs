//! `cargo xtask platforms`: lints the workspace for Windows and macOS on a Unix system.
//!
//! Lints need no linker, but the build scripts of two dependencies compile C code. Stubs that write
//! empty files replace the C compiler and the archiver. These lints use a separate target
//! directory, because the empty files must never get into a program. Platform-specific features are
//! linted too, but not Metal's shaders, which are compiled when a program starts.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Targets to lint, each with its features.
const LINTED: [(&str, &str); 3] = [
    ("x86_64-pc-windows-msvc", ""),
    ("aarch64-apple-darwin", ""),
    ("aarch64-apple-darwin", "metal,accelerate"),
];

/// Stub of a C compiler. Supports `cc -o FILE`, and `cl -FoFILE` as the crate `cc` calls it for
/// Windows.
const COMPILER: &str = r#"#!/bin/sh
# Writes empty files where a C compiler would write code. For lints only: see xtask/src/platforms.rs.
for argument in "$@"; do
    case "$before" in -o) : >"$argument" ;; esac
    case "$argument" in -Fo?*) : >"${argument#-Fo}" ;; esac
    before=$argument
done
"#;

/// Stub of an archiver. Supports `ar … FILE.a …` and `lib -out:FILE`.
const ARCHIVER: &str = r#"#!/bin/sh
# Writes empty files where an archiver would write libraries. For lints only: see xtask/src/platforms.rs.
for argument in "$@"; do
    case "$argument" in
    -out:*) : >"${argument#-out:}" ;;
    *.a) : >"$argument" ;;
    esac
done
"#;

/// Lints the workspace for each target. On x86-64 Linux, also lints it with the feature `mkl`.
///
/// # Errors
///
/// Returns an error if a lint fails or if a target's standard library is not installed.
pub fn run(root: &Path) -> Result<()> {
    ensure!(
        cfg!(unix),
        "the compiler stubs are shell scripts, which do not run on Windows; use cargo clippy there"
    );
    for (target, _) in LINTED {
        check_installed(target)?;
    }
    let folder = root.join("target/platforms");
    let compiler = script::write(&folder, "cc", COMPILER)?;
    let archiver = script::write(&folder, "ar", ARCHIVER)?;
    let lint = |cargo: Cargo, features: &str| {
        cargo
            .env("CARGO_TARGET_DIR", &folder)
            .args(["clippy", "--locked", "--workspace", "--all-targets"])
            .args(["--features", features, "--", "-D", "warnings"])
            .run()
    };
    for (target, features) in LINTED {
        let mut cargo = Cargo::new(root).env("CARGO_BUILD_TARGET", target);
        for (tool, stub) in [("CC", &compiler), ("CXX", &compiler), ("AR", &archiver)] {
            cargo = cargo.env(&format!("{tool}_{}", target.replace('-', "_")), stub);
        }
        lint(cargo, features)?;
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        // No stubs here: the build script itself contains C code, which has to work. A missing MKL
        // fails only at link time.
        lint(Cargo::new(root), "mkl")?;
    }
    Ok(())
}

/// Checks that rustc has a standard library for `target`.
fn check_installed(target: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("cannot start rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    ensure!(
        output.status.success() && folder.is_dir(),
        "the standard library for {target} is not installed; run `rustup target add {target}`"
    );
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_stubs_write_the_output_files() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = script::write(folder.path(), "cc", COMPILER).unwrap();
        let archiver = script::write(folder.path(), "ar", ARCHIVER).unwrap();
        for (program, arguments, file) in [
            (&compiler, "-O3 -c x.c -o x.o", "x.o"),
            (&compiler, "-nologo -Foy.o -c y.c", "y.o"),
            (&archiver, "cq libx.a x.o y.o", "libx.a"),
            (&archiver, "-out:y.lib -nologo y.o", "y.lib"),
        ] {
            let status = Command::new(program)
                .args(arguments.split(' '))
                .current_dir(folder.path())
                .status();
            assert!(status.unwrap().success());
            assert_eq!(fs::read(folder.path().join(file)).unwrap(), b"", "{file}");
        }
    }

    #[test]
    fn a_missing_standard_library_is_an_error_with_the_command_to_install_it() {
        for target in ["x86_64-unknown-linux-musl-absent", "avr-none"] {
            let message = check_installed(target).unwrap_err().to_string();
            assert!(
                message.contains(&format!("rustup target add {target}")),
                "{message}"
            );
        }
    }
}
