//! `cargo xtask cuda-check`: lints the code behind the feature `cuda` without a GPU.
//!
//! candle's build scripts compile CUDA kernels with NVIDIA's `nvcc`, even for `cargo check`. Lints
//! need the names of the kernels but not their code, so a stub that writes empty files replaces
//! `nvcc`. Lints use a separate target directory, because empty kernels must never get into a
//! program.
//! `--build` compiles and links the program with a real toolkit.

use crate::cargo::Cargo;
use crate::script;
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Version of the toolkit whose bindings are checked, 13.0 in cudarc's notation.
const CUDA_VERSION: &str = "13000";
/// Default of `CUDA_COMPUTE_CAP`, the oldest supported GPU generation: Ampere, which has bf16.
const COMPUTE_CAP: &str = "80";

/// Stub of `nvcc`. Supports `-o FILE`, and `--output-directory DIR` with a source file.
const NVCC_STUB: &str = r#"#!/bin/sh
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

/// Options of `cargo xtask cuda-check`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Build the program with the toolkit in CUDA_HOME instead of linting
    #[arg(long)]
    pub build: bool,
    /// Features to build with
    #[arg(long, value_name = "NAMES", default_value = "cuda", requires = "build")]
    pub features: String,
}

impl Default for Options {
    /// Lints without building.
    fn default() -> Self {
        Self {
            build: false,
            features: "cuda".to_owned(),
        }
    }
}

/// Lints the workspace with the feature `cudnn`, which includes `cuda`, or builds the program.
///
/// # Errors
///
/// Returns an error if a lint or the build fails. A build also requires a toolkit in `CUDA_HOME`.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.build {
        return build(root, &options.features);
    }
    let folder = root.join("target/cuda-check");
    let nvcc = script::write(&folder, "nvcc", NVCC_STUB)?;
    with_versions(Cargo::new(root))
        .env("NVCC", nvcc)
        .env("CARGO_TARGET_DIR", &folder)
        .args(["clippy", "--locked", "--workspace", "--all-targets"])
        .args(["--features", "cudnn", "--", "-D", "warnings"])
        .run()
}

fn build(root: &Path, features: &str) -> Result<()> {
    let home = env::var_os("CUDA_HOME").map(PathBuf::from).context(
        "--build needs CUDA_HOME, the directory of a CUDA toolkit; CONTRIBUTING.md explains how to install one without root",
    )?;
    let nvcc = home.join("bin/nvcc");
    ensure!(
        nvcc.is_file(),
        "CUDA_HOME has no compiler: {} does not exist",
        nvcc.display()
    );
    let cargo = with_versions(Cargo::new(root))
        .env("NVCC", nvcc)
        .env("CARGO_TARGET_DIR", root.join("target/cuda"))
        .args(["rustc", "--locked", "--release", "-p", "cli"])
        .args(["--bin", "waggle", "--features", features]);
    let missing = missing_libraries(&home, features);
    if missing.is_empty() {
        return cargo.run();
    }
    let folder = root.join("target/cuda/link-stubs");
    link_stubs(&folder, &missing, &cuda_version())?;
    println!(
        "linking against stubs, because CUDA_HOME has no {}; the program needs the real libraries to start",
        missing.join(", ")
    );
    // Only the program is linked against the stubs. Build scripts have to run without these
    // libraries.
    cargo
        .args(["--"])
        .args(link_arguments(&folder, &missing))
        .run()
}

/// Arguments that make rustc link against the stubs in `folder`.
///
/// The stubs define no symbols. By default the linker would report undefined symbols, and would
/// drop the libraries as not needed, so that the program could not start anywhere.
fn link_arguments(folder: &Path, names: &[&str]) -> Vec<String> {
    let search = ["-L".to_owned(), format!("native={}", folder.display())];
    let flags = ["-Wl,--unresolved-symbols=ignore-all", "-Wl,--no-as-needed"].map(str::to_owned);
    let libraries = names.iter().map(|name| format!("-l{name}"));
    let linker = flags.into_iter().chain(libraries);
    let linker = linker.flat_map(|flag| ["-C".to_owned(), format!("link-arg={flag}")]);
    search.into_iter().chain(linker).collect()
}

/// Returns the libraries that a program with these features links against and that `home` lacks.
/// `libcuda` is part of the driver, and the others are separate packages from the compiler, so any
/// of them may be missing.
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

/// Creates empty shared libraries with the sonames used by toolkit `version`. The program loads its
/// libraries by soname.
fn link_stubs(folder: &Path, names: &[&str], version: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in names {
        let status = Command::new("cc")
            .args(["-shared", "-x", "c", "/dev/null", "-o"])
            .arg(folder.join(format!("lib{name}.so")))
            .arg(format!("-Wl,-soname,{}", soname(name, version)))
            .status()
            .context("cannot start cc, the linker")?;
        ensure!(
            status.success(),
            "cc failed to create lib{name}.so ({status})"
        );
    }
    Ok(())
}

/// The soname of a library. Most libraries use the toolkit's major version, but some have their
/// own.
fn soname(name: &str, version: &str) -> String {
    let toolkit = version.parse::<u32>().unwrap_or_default() / 1000;
    let number = match name {
        "cuda" => 1,
        "cudnn" => 9,
        "curand" => 10,
        _ => toolkit,
    };
    format!("lib{name}.so.{number}")
}

/// Version of the toolkit in cudarc's notation.
fn cuda_version() -> String {
    env::var("CUDARC_CUDA_VERSION").unwrap_or_else(|_| CUDA_VERSION.to_owned())
}

/// Sets default versions for the variables that the environment does not set.
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
    #[cfg(unix)]
    fn the_stub_writes_the_output_files_of_nvcc() {
        let folder = tempfile::tempdir().unwrap();
        let nvcc = script::write(folder.path(), "nvcc", NVCC_STUB).unwrap();
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
    fn missing_libraries_are_found() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("lib/stubs")).unwrap();
        for file in ["lib/libcudart.so", "lib/stubs/libcuda.so"] {
            fs::write(home.path().join(file), "").unwrap();
        }
        let missing = missing_libraries(home.path(), "cudnn");
        assert_eq!(missing, ["nvrtc", "curand", "cublas", "cublasLt", "cudnn"]);
        assert_eq!(missing_libraries(home.path(), "cuda").len(), 4);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_linked_against_stubs_loads_the_real_libraries() {
        let folder = tempfile::tempdir().unwrap();
        link_stubs(folder.path(), &["cuda", "cudart"], "13000").unwrap();
        let source = folder.path().join("main.rs");
        let program = folder.path().join("program");
        let text = "#[link(name = \"cuda\")] unsafe extern \"C\" { fn cuInit(flags: u32) -> i32; }\n\
                    fn main() { println!(\"{}\", unsafe { cuInit(0) }); }\n";
        fs::write(&source, text).unwrap();
        let status = Command::new("rustc")
            .args(["--edition", "2024", "-o"])
            .args([&program, &source])
            .args(link_arguments(folder.path(), &["cuda", "cudart"]))
            .status();
        assert!(status.unwrap().success());

        // With real libraries in the loader's path, the program starts and calls them.
        let real = folder.path().join("real");
        fs::create_dir(&real).unwrap();
        let code = folder.path().join("real.c");
        fs::write(&code, "int cuInit(unsigned flags) { return 100; }\n").unwrap();
        for file in ["libcuda.so.1", "libcudart.so.13"] {
            let status = Command::new("cc")
                .arg("-shared")
                .arg(&code)
                .arg("-o")
                .arg(real.join(file))
                .status();
            assert!(status.unwrap().success());
        }
        let output = Command::new(&program)
            .env("LD_LIBRARY_PATH", &real)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "100\n");
        // The program needs both libraries: without the second one it does not start.
        fs::remove_file(real.join("libcudart.so.13")).unwrap();
        fs::create_dir(real.join("libcudart.so.13")).unwrap();
        let output = Command::new(&program)
            .env("LD_LIBRARY_PATH", &real)
            .output()
            .unwrap();
        assert!(!output.status.success());
    }
}
