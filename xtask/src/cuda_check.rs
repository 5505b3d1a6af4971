//! CUDA without a GPU: `cargo xtask cuda-check` checks what only compiles with the feature `cuda`.
//!
//! candle's kernels are compiled by NVIDIA's `nvcc` even for `cargo check`. Lints need the kernels' names but not
//! their code, so a stand-in that writes empty files takes its place, in a target folder of its own: an empty
//! kernel must never get into a program. With `--build` a real toolkit compiles and links the program.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The toolkit whose bindings are checked, as cudarc writes it: 13.0.
const CUDA_VERSION: &str = "13000";
/// The oldest GPUs that the program is built for unless `CUDA_COMPUTE_CAP` says otherwise: Ampere, with bf16.
const COMPUTE_CAP: &str = "80";

/// What `nvcc` is asked for: `-o FILE`, or `--output-directory DIR` and a source.
const STAND_IN: &str = r#"#!/bin/sh
# Writes empty files where nvcc would write code. For lints only: see xtask/src/cuda_check.rs.
for argument in "$@"; do
    case "$before" in
    -o) : >"$argument" ;;
    --output-directory) folder=$argument ;;
    esac
    case "$argument" in *.cu) source=$argument ;; esac
    before=$argument
done
if [ -n "$folder" ] && [ -n "$source" ]; then
    : >"$folder/$(basename "$source" .cu).ptx"
fi
"#;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Build the program with the toolkit in CUDA_HOME instead of checking with a stand-in for it
    #[arg(long)]
    pub build: bool,
    /// With --build, the features to build with
    #[arg(long, value_name = "NAMES", default_value = "cuda", requires = "build")]
    pub features: String,
}

impl Default for Options {
    /// The check.
    fn default() -> Self {
        Self {
            build: false,
            features: "cuda".to_owned(),
        }
    }
}

/// Lints everything with the feature `cudnn`, which holds `cuda`; or builds the program.
///
/// # Errors
/// A lint, a failed build, or no toolkit for one.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.build {
        return build(root, &options.features);
    }
    let folder = root.join("target/cuda-check");
    let nvcc = script::write(&folder, "nvcc", STAND_IN)?;
    with_versions(Cargo::new(root))
        .env("NVCC", nvcc)
        .env("CARGO_TARGET_DIR", &folder)
        .args(["clippy", "--locked", "--workspace", "--all-targets"])
        .args(["--features", "cudnn", "--", "-D", "warnings"])
        .run()
}

fn build(root: &Path, features: &str) -> Result<()> {
    let home = env::var_os("CUDA_HOME").map(PathBuf::from).context(
        "--build needs CUDA_HOME, the folder of a CUDA toolkit; CONTRIBUTING.md says how to get one without root",
    )?;
    let nvcc = home.join("bin/nvcc");
    ensure!(
        nvcc.is_file(),
        "CUDA_HOME is {}, but there is no {}",
        home.display(),
        nvcc.display()
    );
    let mut cargo = with_versions(Cargo::new(root))
        .env("NVCC", nvcc)
        .env("CARGO_TARGET_DIR", root.join("target/cuda"));
    let missing = missing_libraries(&home, features);
    if !missing.is_empty() {
        let folder = root.join("target/cuda/link-stubs");
        link_stubs(&folder, &missing)?;
        println!(
            "CUDA_HOME lacks {}: linked against empty stand-ins, the program will need the real ones to start",
            missing.join(", ")
        );
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        let search = format!("-L native={}", folder.display());
        cargo = cargo.env(
            "RUSTFLAGS",
            format!("{flags} {search} -C link-arg=-Wl,--unresolved-symbols=ignore-all"),
        );
    }
    cargo
        .args(["build", "--locked", "--release", "-p", "cli"])
        .args(["--features", features])
        .run()
}

/// The libraries that a program with these features is linked against and that the toolkit does not bring: the
/// driver's comes with a driver, and the compiler can be installed without the others.
fn missing_libraries(home: &Path, features: &str) -> Vec<&'static str> {
    let folders = ["lib64", "lib", "lib64/stubs", "lib/stubs"].map(|folder| home.join(folder));
    let cudnn = features.contains("cudnn").then_some("cudnn");
    ["cuda", "cudart", "nvrtc", "curand", "cublas", "cublasLt"]
        .into_iter()
        .chain(cudnn)
        .filter(|name| {
            let file = format!("lib{name}.so");
            !folders.iter().any(|folder| folder.join(&file).exists())
        })
        .collect()
}

/// Empty shared libraries of these names.
fn link_stubs(folder: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in names {
        let status = Command::new("cc")
            .args(["-shared", "-x", "c", "/dev/null", "-o"])
            .arg(folder.join(format!("lib{name}.so")))
            .status()
            .context("cannot start cc, which Rust links with too")?;
        ensure!(status.success(), "cc made no lib{name}.so ({status})");
    }
    Ok(())
}

/// What the user has set goes before ours.
fn with_versions(cargo: Cargo) -> Cargo {
    [
        ("CUDARC_CUDA_VERSION", CUDA_VERSION),
        ("CUDA_COMPUTE_CAP", COMPUTE_CAP),
    ]
    .into_iter()
    .filter(|(name, _)| env::var_os(name).is_none())
    .fold(cargo, |cargo, (name, value)| cargo.env(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_writes_what_nvcc_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let nvcc = script::write(folder.path(), "nvcc", STAND_IN).unwrap();
        let out = folder.path().display().to_string();
        let object = format!("{out}/x.o");
        for arguments in [
            vec!["-c", "-o", &object, "-O3", "src/moe/x.cu"],
            vec!["--ptx", "--output-directory", &out, "-O3", "src/reduce.cu"],
        ] {
            let status = Command::new(&nvcc).args(arguments).status().unwrap();
            assert!(status.success());
        }
        for file in ["x.o", "reduce.ptx"] {
            assert_eq!(fs::read(folder.path().join(file)).unwrap(), b"", "{file}");
        }
    }

    #[test]
    fn what_a_toolkit_lacks_gets_a_stub() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("lib/stubs")).unwrap();
        for file in ["lib/libcudart.so", "lib/stubs/libcuda.so"] {
            fs::write(home.path().join(file), "").unwrap();
        }
        let missing = missing_libraries(home.path(), "cudnn");
        assert_eq!(missing, ["nvrtc", "curand", "cublas", "cublasLt", "cudnn"]);
        assert_eq!(missing_libraries(home.path(), "cuda").len(), 4);
        let stubs = home.path().join("made");
        link_stubs(&stubs, &missing).unwrap();
        assert!(fs::metadata(stubs.join("libcudnn.so")).unwrap().len() > 0);
    }
}
