//! `cargo xtask cuda-check` and `cargo xtask platforms`: lints of code that this machine may not be
//! able to build.
//!
//! Lints need no compiled code, but the build scripts of some dependencies run compilers. A stub
//! that creates empty files replaces them. Empty files must never get into a program.

use crate::cargo;
use anyhow::{Context, Result, ensure};
use std::env;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// The stub, relative to the root.
const STUB: &str = "xtask/scripts/compiler_stub.sh";

/// Lints the workspace with the feature `cudnn`, which includes `cuda`. candle's build scripts compile
/// CUDA kernels, with the stub or with the toolkit in `CUDA_HOME`.
pub fn cuda(sh: &Shell, with_toolkit: bool) -> Result<()> {
    let mut clippy = cargo(
        sh,
        "clippy --locked --workspace --all-targets --features cudnn",
    );
    if with_toolkit {
        let home = env::var_os("CUDA_HOME").context(
            "--build needs CUDA_HOME, the directory of a CUDA toolkit; CONTRIBUTING.md explains how to install one",
        )?;
        clippy = clippy.env("NVCC", PathBuf::from(home).join("bin/nvcc"));
    } else {
        // With a profile of its own, cargo keeps the empty kernels and everything that depends on
        // them apart from other builds.
        clippy = clippy
            .args(["--config", "profile.dev.package.candle-kernels.debug=1"])
            .env("NVCC", sh.current_dir().join(STUB));
    }
    // CUDA 13.0 in cudarc's notation, and the oldest supported GPU generation: Ampere, which has
    // bf16.
    for (name, default) in [("CUDARC_CUDA_VERSION", "13000"), ("CUDA_COMPUTE_CAP", "80")] {
        if env::var_os(name).is_none() {
            clippy = clippy.env(name, default);
        }
    }
    Ok(clippy.args(["--", "-Dwarnings"]).run()?)
}

/// Targets to lint, each with its features.
const PLATFORMS: [(&str, &str); 3] = [
    ("x86_64-pc-windows-msvc", ""),
    ("aarch64-apple-darwin", ""),
    ("aarch64-apple-darwin", "metal,accelerate"),
];

/// Lints the workspace for Windows and macOS, but not Metal's shaders, which are compiled when a
/// program starts. On x86-64 Linux, also lints it with the feature `mkl`.
pub fn platforms(sh: &Shell) -> Result<()> {
    ensure!(
        cfg!(unix),
        "the compiler stub is a shell script, which does not run on Windows; use cargo clippy there"
    );
    for (target, _) in PLATFORMS {
        let library = cmd!(sh, "rustc --print target-libdir --target {target}").quiet();
        ensure!(
            Path::new(&library.read()?).is_dir(),
            "the standard library for {target} is not installed; run `rustup target add {target}`"
        );
    }
    // The empty files stay in this target directory.
    let clippy = "clippy --locked --workspace --all-targets --target-dir target/platforms";
    for (target, features) in PLATFORMS {
        let mut clippy = cargo(sh, clippy).args(["--target", target, "--features", features]);
        for tool in ["CC", "CXX", "AR"] {
            let variable = format!("{tool}_{}", target.replace('-', "_"));
            clippy = clippy.env(variable, sh.current_dir().join(STUB));
        }
        clippy.args(["--", "-Dwarnings"]).run()?;
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        // No stubs here: the build script itself contains C code, which has to work. A missing MKL
        // fails only at link time.
        cargo(sh, &format!("{clippy} --features mkl -- -Dwarnings")).run()?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_stub_writes_the_output_files() {
        let sh = Shell::new().unwrap();
        let folder = sh.create_temp_dir().unwrap();
        sh.change_dir(folder.path());
        for (arguments, file) in [
            ("-O3 -c x.c -o x.o", "x.o"),
            ("-nologo -Foy.o -c y.c", "y.o"),
            ("cq libx.a x.o y.o", "libx.a"),
            ("-out:y.lib -nologo y.o", "y.lib"),
            ("-c -o z.o -O3 src/moe/z.cu", "z.o"),
            ("--ptx --output-directory . -O3 src/r.cu", "r.ptx"),
        ] {
            let command = sh.cmd(xtask::root().join(STUB)).args(arguments.split(' '));
            command.quiet().run().unwrap();
            assert_eq!(sh.read_file(file).unwrap(), "", "{file}");
        }
    }
}
