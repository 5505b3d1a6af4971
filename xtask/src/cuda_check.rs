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
        "CUDA_HOME lacks {}: linked against empty stand-ins, the program will need the real ones to start",
        missing.join(", ")
    );
    // For the program alone: build scripts must start without these libraries.
    cargo
        .args(["--"])
        .args(link_arguments(&folder, &missing))
        .run()
}

/// What makes rustc link against the stand-ins in `folder`. They define nothing, so that the linker would find
/// every name missing, and then leave the libraries out as not needed: the program could not start anywhere.
fn link_arguments(folder: &Path, names: &[&str]) -> Vec<String> {
    let search = ["-L".to_owned(), format!("native={}", folder.display())];
    let flags = ["-Wl,--unresolved-symbols=ignore-all", "-Wl,--no-as-needed"].map(str::to_owned);
    let libraries = names.iter().map(|name| format!("-l{name}"));
    let linker = flags.into_iter().chain(libraries);
    let linker = linker.flat_map(|flag| ["-C".to_owned(), format!("link-arg={flag}")]);
    search.into_iter().chain(linker).collect()
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

/// Empty shared libraries of these names, which say that they are those of the toolkit `version`: the program asks
/// for what they say.
fn link_stubs(folder: &Path, names: &[&str], version: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in names {
        let status = Command::new("cc")
            .args(["-shared", "-x", "c", "/dev/null", "-o"])
            .arg(folder.join(format!("lib{name}.so")))
            .arg(format!("-Wl,-soname,{}", file_name(name, version)))
            .status()
            .context("cannot start cc, which Rust links with too")?;
        ensure!(status.success(), "cc made no lib{name}.so ({status})");
    }
    Ok(())
}

/// What the library is called where programs run: the driver's and some others count by themselves, the rest go with
/// the toolkit.
fn file_name(name: &str, version: &str) -> String {
    let toolkit = version.parse::<u32>().unwrap_or_default() / 1000;
    let number = match name {
        "cuda" => 1,
        "cudnn" => 9,
        "curand" => 10,
        _ => toolkit,
    };
    format!("lib{name}.so.{number}")
}

/// The version of the toolkit, as cudarc writes it.
fn cuda_version() -> String {
    env::var("CUDARC_CUDA_VERSION").unwrap_or_else(|_| CUDA_VERSION.to_owned())
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
    #[cfg(unix)]
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
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_asks_for_the_libraries_that_stubs_stand_for() {
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

        // Libraries that have what it needs, where the loader looks first: the program starts and calls them.
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
        // It asks for both: without the second it does not start.
        fs::remove_file(real.join("libcudart.so.13")).unwrap();
        fs::create_dir(real.join("libcudart.so.13")).unwrap();
        let output = Command::new(&program)
            .env("LD_LIBRARY_PATH", &real)
            .output()
            .unwrap();
        assert!(!output.status.success());
    }
}
