//! `cargo xtask standalone`: builds and runs an example of each library crate in a workspace of its
//! own, whose only dependency is that crate.
//!
//! This fails if an example needs another crate, or if a crate needs features that only another
//! member of the workspace enables.

use crate::cargo;
use anyhow::{Context, Result};
use xshell::Shell;

/// The library crates, each with the example to run.
const EXAMPLES: [(&str, &str); 6] = [
    ("fetch", "download"),
    ("sample", "write_sample"),
    ("dataset", "batch_folder"),
    ("trainer", "two_groups"),
    ("kernels", "cnn"),
    ("vgg", "forward_and_replace_head"),
];

/// Writes the packages to `target/standalone`, and builds and runs each of them. They use the
/// workspace's `Cargo.lock`, share a target directory, and do not optimize: the examples are small,
/// and features that differ between the packages compile some dependencies several times.
///
/// # Errors
///
/// Returns an error if an example does not build or fails.
pub fn run(sh: &Shell) -> Result<()> {
    let root = sh.current_dir();
    let target = root.join("target/standalone/target");
    for (name, example) in EXAMPLES {
        let package = root.join("target/standalone").join(name);
        let path = root.join("crates").join(name);
        // A TOML literal string, because a path can contain backslashes.
        let manifest = format!(
            "[package]\nname = \"standalone-{name}\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\n{name} = {{ path = '{}' }}\n\n[profile.dev]\ndebug = false\n",
            path.display()
        );
        sh.write_file(package.join("Cargo.toml"), manifest)?;
        sh.create_dir(package.join("src"))?;
        sh.copy_file(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
        let source = path.join("examples").join(example).with_extension("rs");
        sh.copy_file(source, package.join("src/main.rs"))?;
        cargo(sh, "run --offline --manifest-path")
            .arg(package.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .run()
            .with_context(|| format!("`{name}` does not work as the only dependency"))?;
    }
    Ok(())
}
