//! Development tasks of the project. The binary `cargo xtask` runs them.
//!
//! - [`fetch_data`]: downloads, verifies and unpacks the ants and bees photographs
//! - [`tidy`]: checks rules about the source code that rustfmt and clippy do not check
//! - [`mod@reference`]: runs the tests that need reference values from outside the repository
//! - [`bench_peers`]: compares this project's speed with PyTorch
//! - [`fuzz`]: fuzzes the code that reads files
//! - [`sanitize`]: runs the unit, golden and kernel tests with AddressSanitizer
//! - [`cuda_check`]: lints the CUDA code without a GPU
//! - [`platforms`]: lints for Windows and macOS on a Unix system
//! - [`standalone`]: runs an example of each library crate with only that crate as dependency
//! - [`ci`]: runs everything that must pass before a change is merged
//!
//! Of the workspace's other crates, this package depends only on `fetch`, and not on candle, so it
//! builds in seconds. Tasks that need the other crates run `cargo`. Each task takes a [`Shell`]
//! whose current directory is the project's root.

pub mod bench_peers;
pub mod ci;
pub mod cuda_check;
pub mod fetch_data;
pub mod fuzz;
pub mod platforms;
pub mod reference;
pub mod sanitize;
pub mod standalone;
pub mod tidy;

use std::path::{Path, PathBuf};
use xshell::{Cmd, Shell};

/// The root of the workspace.
///
/// `cargo run` sets `CARGO_MANIFEST_DIR`, which stays correct when the checkout is moved after a
/// build. A binary that is started directly uses the path it was built in.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.ends_with("xtask"))
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Creates a `cargo` command from a line of arguments separated by white space.
///
/// It does not inherit the variables that `cargo xtask` sets for this package. ring's build script
/// depends on them, so it would run again, and everything above ring would be rebuilt.
fn cargo<'a>(sh: &'a Shell, line: &str) -> Cmd<'a> {
    let cargo = sh.cmd("cargo").args(line.split_whitespace());
    let is_of_package =
        |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter(|name| is_of_package(name))
        .fold(cargo, |cargo, name| cargo.env_remove(name))
}

/// Writes an executable script to `folder/name` and returns its path.
///
/// An identical script is not written again: cargo would treat the newer file as a new compiler and
/// rebuild everything.
fn script(sh: &Shell, folder: &str, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = sh.current_dir().join(folder).join(name);
    if !sh.read_file(&path).is_ok_and(|existing| existing == text) {
        sh.write_file(&path, text)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(path)
}

/// Writes a stub of C compilers, archivers and `nvcc`, for lints, which need no code.
///
/// It creates empty output files: for `cc -o FILE`, `cl -FoFILE`, `ar … FILE.a …`, `lib -out:FILE`,
/// and `nvcc --output-directory DIR … FILE.cu`. Empty files must never get into a program, so lints
/// that use them need a target directory of their own.
fn compiler_stub(sh: &Shell, folder: &str) -> anyhow::Result<PathBuf> {
    let text = r#"#!/bin/sh
# Writes empty files where a compiler would write code. For lints only: see xtask/src/lib.rs.
for argument in "$@"; do
    case "$before" in
    -o) : >"$argument" ;;
    --output-directory) folder=$argument ;;
    esac
    case "$argument" in
    -Fo?*) : >"${argument#-Fo}" ;;
    -out:*) : >"${argument#-out:}" ;;
    *.a) : >"$argument" ;;
    *.cu) source=$argument ;;
    esac
    before=$argument
done
if [ -n "$folder" ] && [ -n "$source" ]; then
    : >"$folder/$(basename "$source" .cu).ptx"
fi
"#;
    script(sh, folder, "stub", text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_stub_writes_the_output_files() {
        let sh = Shell::new().unwrap();
        let folder = sh.create_temp_dir().unwrap();
        sh.change_dir(folder.path());
        let stub = compiler_stub(&sh, ".").unwrap();
        for (arguments, file) in [
            ("-O3 -c x.c -o x.o", "x.o"),
            ("-nologo -Foy.o -c y.c", "y.o"),
            ("cq libx.a x.o y.o", "libx.a"),
            ("-out:y.lib -nologo y.o", "y.lib"),
            ("-c -o z.o -O3 src/moe/z.cu", "z.o"),
            ("--ptx --output-directory . -O3 src/r.cu", "r.ptx"),
        ] {
            let command = sh.cmd(&stub).args(arguments.split(' '));
            command.quiet().run().unwrap();
            assert_eq!(sh.read_file(file).unwrap(), "", "{file}");
        }
    }
}
