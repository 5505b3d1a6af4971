//! Rules about the source code that rustfmt and clippy do not check.
//!
//! [`check`] and [`check_dependencies`] read no files, so that tests can pass them any contents.

mod cycles;
mod words;

use anyhow::{Result, ensure};
use regex::Regex;
use serde_json::Value;
use xshell::{Shell, cmd};

/// A text file of the project.
pub struct SourceFile {
    /// Path relative to the project's root, with forward slashes.
    pub path: String,
    /// The whole contents.
    pub text: String,
}

impl SourceFile {
    /// The contents up to the unit tests, which are at the end of a Rust file.
    fn code(&self) -> &str {
        let tests = r"(?m)^#\[cfg\((test|all\(test.*)\)\]\s+(#\[.*\]\s+)*mod \w+ \{";
        let tests = compile(tests).find(&self.text);
        &self.text[..tests.map_or(self.text.len(), |found| found.start())]
    }
}

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// Checks every file that git tracks or would track, and prints the findings.
///
/// # Errors
///
/// Returns an error if there are findings, or without git or cargo.
pub fn run(sh: &Shell) -> Result<()> {
    let listed = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet();
    let mut files = Vec::new();
    for path in listed.read()?.split_terminator('\0') {
        // Git also lists binary files, and deleted files whose deletion is not staged.
        if let Ok(text) = sh.read_file(path) {
            let path = path.to_owned();
            files.push(SourceFile { path, text });
        }
    }
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1").quiet();
    let mut findings = check_dependencies(&serde_json::from_str(&metadata.read()?)?);
    findings.extend(check(&files));
    let features = cmd!(sh, "cargo tree --package cli --edges no-dev --depth 0").quiet();
    let features = features.args(["--format", "{f}"]).read()?;
    if features.contains("fault-injection") {
        findings.push("cargo build must not enable the feature fault-injection of cli".to_owned());
    }
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    println!("{} files are tidy", files.len());
    Ok(())
}

/// Returns the dependencies of library crates on each other that are not allowed, except those of
/// tests. `metadata` is the output of `cargo metadata`.
pub fn check_dependencies(metadata: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut findings = Vec::new();
    for package in list(&metadata["packages"]) {
        let library = package["name"].as_str().unwrap_or_default();
        let allowed: &[&str] = match library {
            "cli" | "xtask" => continue,
            "dataset" => &["trainer"],
            "vgg" => &["fetch", "kernels", "trainer"],
            _ => &[],
        };
        for dependency in list(&package["dependencies"]) {
            let name = dependency["name"].as_str().unwrap_or_default();
            // Only crates of the workspace have a path.
            if dependency["path"].is_null() || dependency["kind"] == "dev" {
                continue;
            }
            if !allowed.contains(&name) {
                findings.push(format!("{library} must not depend on {name}"));
            } else if name == "trainer" && dependency["optional"] != true {
                findings.push(format!("{library} must depend on trainer optionally"));
            }
        }
    }
    findings
}

/// Pattern that matches the source files of the library crates.
const LIBRARIES: &str = "^crates/(dataset|fetch|insight|kernels|sample|trainer|vgg)/src/";

/// The pattern of the paths of files, a file that is exempt, the pattern that the code of the others
/// must not contain, and a message.
const FORBIDDEN: [(&str, Option<&str>, &str, &str); 4] = [
    (
        LIBRARIES,
        None,
        r"\be?print(ln)?!",
        "a library must not print",
    ),
    (
        LIBRARIES,
        None,
        r"(^|[^\w\-])--[a-z]",
        "a library must not name a command-line flag: state the fact, and let `cli` name the flag",
    ),
    (
        "^crates/(dataset|vgg)/src/",
        Some("src/trainer.rs"),
        r"(^|[^\w:])trainer::",
        "only src/trainer.rs may use the crate trainer, behind the feature `trainer`",
    ),
    (
        "^crates/.*/src/",
        Some("src/fault_injection.rs"),
        "WAGGLE_FAULT",
        "only src/fault_injection.rs may inject faults, behind the feature `fault-injection`",
    ),
];

/// Maximum number of lines of a file in a `src` directory, without its unit tests.
const MAX_LINES: usize = 400;

/// Returns the findings for `files`: forbidden code, missing documentation, long files, import cycles
/// and words.
pub fn check(files: &[SourceFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for (paths, exempt, pattern, message) in FORBIDDEN {
        let (paths, pattern) = (compile(paths), compile(pattern));
        let is_exempt = |path: &str| exempt.is_some_and(|exempt| path.ends_with(exempt));
        let checked = |file: &&SourceFile| paths.is_match(&file.path) && !is_exempt(&file.path);
        for file in files.iter().filter(checked) {
            for (index, line) in file.code().lines().enumerate() {
                if pattern.is_match(line) && !line.trim_start().starts_with("//") {
                    findings.push(format!("{}:{}: {message}", file.path, index + 1));
                }
            }
        }
    }
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let mut lines = file.text.lines().filter(|line| !line.trim().is_empty());
        let first = lines.find(|line| !line.starts_with("#!["));
        if !first.is_some_and(|line| line.starts_with("//!")) {
            findings.push(format!("{}: must begin with `//!`", file.path));
        }
        let lines = file.code().lines().count();
        if file.path.contains("/src/") && lines > MAX_LINES {
            let path = &file.path;
            findings.push(format!("{path}: {lines} lines, more than {MAX_LINES}"));
        }
    }
    findings.extend(cycles::check(files));
    findings.extend(words::check(files));
    findings
}
