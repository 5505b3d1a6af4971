//! `cargo xtask examples` and `cargo xtask standalone`: the examples of the crates.

use crate::cargo;
use anyhow::{Context, Result};
use xshell::Shell;

/// Builds every example, and runs those of one file without arguments, except `pretrain_sample`,
/// which takes many minutes.
pub fn run(sh: &Shell) -> Result<()> {
    cargo(sh, "build --locked --workspace --examples").run()?;
    let target = sh.var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    let programs = sh.current_dir().join(target).join("debug/examples");
    for package in sh.read_dir("crates")? {
        for file in sh.read_dir(package.join("examples")).unwrap_or_default() {
            let name = file.file_stem().unwrap_or_default();
            if file.extension().is_some_and(|end| end == "rs") && name != "pretrain_sample" {
                sh.cmd(programs.join(name)).run()?;
            }
        }
    }
    Ok(())
}

/// The library crates, each with an example that uses no other crate.
const STANDALONE: [(&str, &str); 6] = [
    ("fetch", "download"),
    ("sample", "write_sample"),
    ("dataset", "batch_folder"),
    ("trainer", "two_groups"),
    ("kernels", "cnn"),
    ("vgg", "forward_and_replace_head"),
];

/// Checks that each library crate works as the only dependency: that its example runs in a
/// workspace of its own. This fails if the example needs another crate, or if the crate needs
/// features that only another member of the workspace enables.
///
/// The packages are written to `target/standalone` and use the workspace's `Cargo.lock`. The builds
/// are not optimized, because most dependencies have other features than in the workspace.
pub fn check_standalone(sh: &Shell) -> Result<()> {
    let root = sh.current_dir();
    for (name, example) in STANDALONE {
        let package = root.join("target/standalone").join(name);
        let library = root.join("crates").join(name);
        // A TOML literal string, because a path can contain backslashes.
        let manifest = format!(
            "[workspace]\n[package]\nname = \"standalone-{name}\"\nedition = \"2024\"\n\
             [dependencies]\n{name} = {{ path = '{}' }}\n",
            library.display()
        );
        sh.write_file(package.join("Cargo.toml"), manifest)?;
        sh.create_dir(package.join("src"))?;
        sh.copy_file(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
        let source = library.join("examples").join(example).with_extension("rs");
        sh.copy_file(source, package.join("src/main.rs"))?;
        cargo(sh, "run --offline --target-dir target/standalone")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .arg("--manifest-path")
            .arg(package.join("Cargo.toml"))
            .run()
            .with_context(|| format!("`{name}` does not work as the only dependency"))?;
    }
    Ok(())
}
