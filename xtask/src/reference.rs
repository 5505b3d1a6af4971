//! `cargo xtask reference`: tests against reference values and photographs that are not in the
//! repository because of their size or license.
//!
//! There are two kinds of tests. `crates/*/tests/reference.rs` read the directory `WAGGLE_SHARED`
//! and are skipped without it. The golden tests, with `golden` in their names, normally run on
//! copies in the repository. Here `WAGGLE_GOLDEN` makes them run on the original files.

use crate::cargo;
use anyhow::{Context, Result, bail};
use std::path::Path;
use xshell::Shell;

/// Default path of the reference directory, relative to the project's root.
pub const DEFAULT_PATH: &str = "../shared";

/// Runs the tests with the reference directory `path`, all of them even if some fail.
///
/// # Errors
///
/// Returns an error if `path` does not exist or lacks a subdirectory, if there are no such test
/// files, or if a test fails.
pub fn run(sh: &Shell, path: &Path) -> Result<()> {
    let open = || format!("cannot open the reference directory {}", path.display());
    let folder = path.canonicalize().with_context(open)?;
    let parts = ["golden/fixtures", "golden/photos", "data", "weights"];
    let missing: Vec<&str> = parts
        .into_iter()
        .filter(|part| !folder.join(part).is_dir())
        .collect();
    if !missing.is_empty() {
        let (path, missing) = (path.display(), missing.join(", "));
        bail!("{path} is not a reference directory: missing {missing}");
    }
    let mut failures = Vec::new();
    // The filter of a test run applies to the names of tests, so all tests of files with `golden`
    // in their names need a run of their own. With fewer packages than the whole workspace, cargo
    // would select other features and rebuild the dependencies.
    for tests in [
        "--test reference -- --nocapture",
        "--test *golden*",
        "--lib --bins --tests -- golden",
    ] {
        let result = cargo(
            sh,
            &format!("test --locked --workspace --no-fail-fast {tests}"),
        )
        .env("WAGGLE_SHARED", &folder)
        .env("WAGGLE_GOLDEN", folder.join("golden/fixtures"))
        .run();
        failures.extend(result.err().map(|error| error.to_string()));
    }
    if !failures.is_empty() {
        bail!("reference tests failed:\n  {}", failures.join("\n  "));
    }
    Ok(())
}
