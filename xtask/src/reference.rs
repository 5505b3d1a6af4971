//! The reference suite: tests against values and photographs that are too large, or not ours, to lie
//! in the repository.
//!
//! Two kinds of tests take part. `crates/*/tests/reference.rs` read the folder from `WAGGLE_SHARED`
//! and are skipped without it. The golden tests, which have `golden` in their names, always run on the
//! copies in the repository; here they run again on the folder's own files, by `WAGGLE_GOLDEN`.

use crate::cargo::Cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// What a folder must hold to be used.
const PARTS: [&str; 4] = ["golden/fixtures", "golden/photos", "data", "weights"];

/// The usual place of the folder, seen from the project's root.
pub const USUAL_PLACE: &str = "../shared";

/// Runs the suite of the project in `root` on the folder `path`.
///
/// # Errors
/// When `path` is not such a folder, when there are no tests to run, or when one fails.
pub fn run(root: &Path, path: &Path) -> Result<()> {
    let folder = check_folder(path)?;
    let suites = test_files(root, |stem| stem == "reference")?;
    let golden = test_files(root, |stem| stem.contains("golden"))?;
    if suites.is_empty() || golden.is_empty() {
        bail!(
            "no tests to run: expected crates/*/tests/reference.rs and crates/*/tests/*golden*.rs under {}",
            root.display()
        );
    }
    // Always the whole workspace: with fewer packages cargo would choose other features for the
    // dependencies, and build them anew. Numeric crates are optimised in this profile as well.
    let test = |args: &[&str]| {
        Cargo::new(root)
            .args(["test", "--locked", "--workspace", "--no-fail-fast"])
            .args(args)
            .env("WAGGLE_SHARED", &folder)
            .env("WAGGLE_GOLDEN", folder.join("golden/fixtures"))
    };
    let mut failures = Vec::new();
    let mut note =
        |result: Result<()>| failures.extend(result.err().map(|error| error.to_string()));
    note(test(&["--test", "reference", "--", "--nocapture"]).run());
    // Whole files of golden tests, then single ones in other places; cargo filters by test name only.
    let mut names: Vec<&str> = golden.iter().map(|(_, stem)| stem.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let files: Vec<&str> = names.iter().flat_map(|name| ["--test", name]).collect();
    note(test(&files).run());
    note(test(&["--lib", "--bins", "--tests", "--", "golden"]).run());
    if !failures.is_empty() {
        bail!("the reference suite failed:\n  {}", failures.join("\n  "));
    }
    Ok(())
}

/// The absolute path of the folder, if it is one.
fn check_folder(path: &Path) -> Result<PathBuf> {
    let folder = path
        .canonicalize()
        .with_context(|| format!("there is no folder {}", path.display()))?;
    let missing: Vec<&str> = PARTS
        .into_iter()
        .filter(|part| !folder.join(part).is_dir())
        .collect();
    if !missing.is_empty() {
        bail!(
            "{} is not the folder of reference values: it has no {}",
            path.display(),
            missing.join(", no ")
        );
    }
    Ok(folder)
}

/// The files `crates/CRATE/tests/STEM.rs` whose stem is `wanted`, as (crate, stem), sorted.
fn test_files(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>> {
    Ok(crate_files(root, "tests")?
        .into_iter()
        .filter(|(_, stem)| wanted(stem))
        .collect())
}

/// The files `crates/CRATE/FOLDER/STEM.rs`, as (crate, stem), sorted.
///
/// # Errors
/// When a folder cannot be listed.
pub(crate) fn crate_files(root: &Path, folder: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for package in list(&root.join("crates"))? {
        let inner = package.join(folder);
        if !inner.is_dir() {
            continue;
        }
        for file in list(&inner)? {
            if file.extension().is_some_and(|extension| extension == "rs") {
                found.push((name(package.file_name()), name(file.file_stem())));
            }
        }
    }
    Ok(found)
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
    fn another_folder_is_refused_with_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("golden/fixtures")).unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        let error = check_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no golden/photos, no weights"), "{error}");

        let error = check_folder(&folder.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("there is no folder"), "{error}");
    }

    #[test]
    fn a_whole_folder_is_taken_by_its_absolute_path() {
        let folder = tempfile::tempdir().unwrap();
        for part in PARTS {
            fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        let found = check_folder(folder.path()).unwrap();
        assert!(found.is_absolute());
    }

    #[test]
    fn suites_are_discovered() {
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
    fn without_tests_the_suite_fails() {
        let folder = tempfile::tempdir().unwrap();
        for part in PARTS {
            fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        fs::create_dir_all(folder.path().join("crates")).unwrap();
        let error = run(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("no tests to run"), "{error}");
    }
}
