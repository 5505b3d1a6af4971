//! Other systems without having them: `cargo xtask platforms` lints everything for Windows and for macOS.
//!
//! Lints need no linker, but two dependencies compile C in their build scripts even so. Stand-ins that write empty
//! files take the place of the C compiler and the archiver, in a target folder of its own: nothing from there must
//! get into a program. The features that only these systems have are linted with them; Metal's shaders are
//! compiled when a program starts, so that this does not see them.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is linted: the target, and the features with which it is.
const LINTED: [(&str, &str); 3] = [
    ("x86_64-pc-windows-msvc", ""),
    ("aarch64-apple-darwin", ""),
    ("aarch64-apple-darwin", "metal,accelerate"),
];

/// `cc -o FILE`, or `cl -FoFILE` as the crate `cc` asks for it on Windows.
const COMPILER: &str = r#"#!/bin/sh
# Writes empty files where a C compiler would write code. For lints only: see xtask/src/platforms.rs.
for argument in "$@"; do
    case "$before" in -o) : >"$argument" ;; esac
    case "$argument" in -Fo?*) : >"${argument#-Fo}" ;; esac
    before=$argument
done
"#;

/// `ar … FILE.a …`, or `lib -out:FILE`.
const ARCHIVER: &str = r#"#!/bin/sh
# Writes empty files where an archiver would write libraries. For lints only: see xtask/src/platforms.rs.
for argument in "$@"; do
    case "$argument" in
    -out:*) : >"${argument#-out:}" ;;
    *.a) : >"$argument" ;;
    esac
done
"#;

/// Lints the workspace for each of these systems.
///
/// # Errors
/// A lint, or a standard library that is not installed.
pub fn run(root: &Path) -> Result<()> {
    ensure!(
        cfg!(unix),
        "the stand-ins for a C compiler are shell scripts; on Windows, cargo clippy does it"
    );
    for (target, _) in LINTED {
        installed(target)?;
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
        for (tool, stand_in) in [("CC", &compiler), ("CXX", &compiler), ("AR", &archiver)] {
            cargo = cargo.env(&format!("{tool}_{}", target.replace('-', "_")), stand_in);
        }
        lint(cargo, features)?;
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        // Without stand-ins: its build script is a program of its own with C in it. Without MKL only a link fails.
        lint(Cargo::new(root), "mkl")?;
    }
    Ok(())
}

/// Makes sure that rustc has a standard library for `target`.
fn installed(target: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("cannot start rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    ensure!(
        output.status.success() && folder.is_dir(),
        "there is no standard library for {target}; `rustup target add {target}` installs it"
    );
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_stand_ins_write_what_they_are_asked_for() {
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
    fn a_target_without_a_standard_library_is_refused_with_what_to_do() {
        for target in ["x86_64-unknown-linux-musl-absent", "avr-none"] {
            let message = installed(target).unwrap_err().to_string();
            assert!(
                message.contains(&format!("rustup target add {target}")),
                "{message}"
            );
        }
    }
}
