//! `cargo xtask reference`: tests against reference values and photographs that are not in the
//! repository because of their size or license.
//!
//! There are two kinds of tests. `crates/*/tests/reference.rs` read the directory `WAGGLE_SHARED`
//! and are skipped without it. The golden tests, with `golden` in their names, normally run on
//! copies in the repository. Here `WAGGLE_GOLDEN` makes them run on the original files.

use crate::cargo::Cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Subdirectories of the reference directory.
const SUBDIRECTORIES: [&str; 4] = ["golden/fixtures", "golden/photos", "data", "weights"];

/// Default path of the reference directory, relative to the project's root.
pub const DEFAULT_PATH: &str = "../shared";

/// Runs the tests of the project in `root` with the reference directory `path`.
///
/// # Errors
///
/// Returns an error if `path` lacks a subdirectory, if there are no tests, or if one fails.
pub fn run(root: &Path, path: &Path) -> Result<()> {
    let folder = check_folder(path)?;
    let suites = test_files(root, |stem| stem == "reference")?;
    let golden = test_files(root, |stem| stem.contains("golden"))?;
    if suites.is_empty() || golden.is_empty() {
        bail!(
            "found no tests: expected crates/*/tests/reference.rs and crates/*/tests/*golden*.rs in {}",
            root.display()
        );
    }
    // With fewer packages than the whole workspace, cargo would select other features and rebuild
    // the dependencies.
    let test = |args: &[&str]| {
        Cargo::new(root)
            .args(["test", "--locked", "--workspace", "--no-fail-fast"])
            .args(args)
            .env("WAGGLE_SHARED", &folder)
            .env("WAGGLE_GOLDEN", folder.join("golden/fixtures"))
    };
    let mut failures = Vec::new();
    let mut record =
        |result: Result<()>| failures.extend(result.err().map(|error| error.to_string()));
    record(test(&["--test", "reference", "--", "--nocapture"]).run());
    // First all tests in files with `golden` in their names, then the tests with `golden` in their
    // own names. These are separate runs because the filter of a test run applies to test names.
    let mut names: Vec<&str> = golden.iter().map(|(_, stem)| stem.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let files: Vec<&str> = names.iter().flat_map(|name| ["--test", name]).collect();
    record(test(&files).run());
    record(test(&["--lib", "--bins", "--tests", "--", "golden"]).run());
    if !failures.is_empty() {
        bail!("reference tests failed:\n  {}", failures.join("\n  "));
    }
    Ok(())
}

/// Returns the absolute path after checking the subdirectories.
fn check_folder(path: &Path) -> Result<PathBuf> {
    let folder = path
        .canonicalize()
        .with_context(|| format!("cannot open the reference directory {}", path.display()))?;
    let missing: Vec<&str> = SUBDIRECTORIES
        .into_iter()
        .filter(|part| !folder.join(part).is_dir())
        .collect();
    if !missing.is_empty() {
        bail!(
            "{} is not a reference directory: missing {}",
            path.display(),
            missing.join(", ")
        );
    }
    Ok(folder)
}

/// Lists the files `crates/CRATE/tests/STEM.rs` with a stem that `matches`, as sorted pairs (crate,
/// stem).
fn test_files(root: &Path, matches: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
    Ok(crate_files(root, "tests")?
        .into_iter()
        .filter(|(_, stem)| matches(stem))
        .collect())
}

/// Lists the files `crates/CRATE/FOLDER/STEM.rs` as sorted pairs (crate, stem).
///
/// # Errors
///
/// Returns an error if a directory cannot be listed.
pub(crate) fn crate_files(root: &Path, folder: &str) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for package in list(&root.join("crates"))? {
        let inner = package.join(folder);
        if !inner.is_dir() {
            continue;
        }
        for file in list(&inner)? {
            if file.extension().is_some_and(|extension| extension == "rs") {
                files.push((name(package.file_name()), name(file.file_stem())));
            }
        }
    }
    Ok(files)
}

fn name(part: Option<&std::ffi::OsStr>) -> String {
    part.unwrap_or_default().to_string_lossy().into_owned()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = folder
        .read_dir()
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot list {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn missing_subdirectories_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("golden/fixtures")).unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        let error = check_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("missing golden/photos, weights"), "{error}");

        let error = check_folder(&folder.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("cannot open"), "{error}");
    }

    #[test]
    fn the_path_of_the_directory_becomes_absolute() {
        let folder = tempfile::tempdir().unwrap();
        for part in SUBDIRECTORIES {
            fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        let path = check_folder(folder.path()).unwrap();
        assert!(path.is_absolute());
    }

    #[test]
    fn test_files_are_found_by_name() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "b/tests/reference.rs",
            "a/tests/reference.rs",
            "a/tests/sgd_golden.rs",
        ] {
            let path = root.path().join("crates").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir_all(root.path().join("crates/c/src")).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            test_files(root.path(), |stem| stem == "reference").unwrap(),
            [pair("a", "reference"), pair("b", "reference")]
        );
        assert_eq!(
            test_files(root.path(), |stem| stem.contains("golden")).unwrap(),
            [pair("a", "sgd_golden")]
        );
    }

    #[test]
    fn a_project_without_tests_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for part in SUBDIRECTORIES {
            fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        fs::create_dir_all(folder.path().join("crates")).unwrap();
        let error = run(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("found no tests"), "{error}");
    }
}
