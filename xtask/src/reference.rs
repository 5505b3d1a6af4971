//! `cargo xtask reference`: tests against reference values and photographs that are not in the
//! repository because of their size or license.
//!
//! There are two kinds of tests. `crates/*/tests/reference.rs` read the directory `WAGGLE_SHARED`
//! and are skipped without it. The golden tests, with `golden` in their names, normally run on
//! copies in the repository. Here `WAGGLE_GOLDEN` makes them run on the original files.

use crate::cargo;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use xshell::Shell;

/// Arguments of the test runs. The filter of a run applies to the names of tests, so all tests of
/// files with `golden` in their names need a run of their own. With fewer packages than the whole
/// workspace, cargo would select other features and rebuild the dependencies.
const RUNS: [&str; 3] = [
    "--test reference -- --nocapture",
    "--test *golden*",
    "--lib --bins --tests -- golden",
];

/// Runs the tests with the reference directory `path`, all of them even if some fail.
pub fn run(sh: &Shell, path: &Path) -> Result<()> {
    let folder = path.canonicalize().context("no reference directory")?;
    for part in ["golden/fixtures", "golden/photos", "data", "weights"] {
        let found = folder.join(part).is_dir();
        ensure!(found, "{} lacks {part}", folder.display());
    }
    let mut results = Vec::new();
    for tests in RUNS {
        let test = format!("test --locked --workspace --no-fail-fast {tests}");
        let test = cargo(sh, &test).env("WAGGLE_SHARED", &folder);
        results.push(
            test.env("WAGGLE_GOLDEN", folder.join("golden/fixtures"))
                .run(),
        );
    }
    results
        .into_iter()
        .collect::<Result<(), _>>()
        .context("reference tests failed")
}
