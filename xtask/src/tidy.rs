//! Rules about the source code that rustfmt and clippy do not check. Each finding names a fix.
//!
//! [`check`] reads no files itself, so that tests can pass it any paths and contents.

mod dependencies;
mod files;
mod libraries;
mod text;
mod words;

pub use files::SourceFile;

use anyhow::{Result, bail};
use std::fmt::{self, Display};
use std::path::Path;

/// The README's command for running all tests.
pub const TEST_COMMAND: &str = "cargo test --workspace";

/// The README's command for training.
pub const TRAIN_COMMAND: &str = "cargo run --release -p cli -- train";

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path of the file, relative to the project's root, with forward slashes.
    pub path: String,
    /// Line number, from 1; 0 if the finding is about the whole file.
    pub line: usize,
    /// The violation and how to fix it.
    pub message: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// An exception to [`MAX_LINES`].
pub struct LongFile {
    /// Path relative to the project's root.
    pub path: &'static str,
    /// Why the file is not split.
    pub reason: &'static str,
}

/// Files in `src` directories that may have more than [`MAX_LINES`] lines.
pub const LONG_FILES: &[LongFile] = &[];

/// Maximum number of lines of a file in a `src` directory. Most files should have 100 to 300 lines
/// and a single subject.
pub const MAX_LINES: usize = 400;

/// Maximum size of a file in the repository, in bytes.
pub const MAX_BYTES: u64 = 3 << 20;

/// Checks the project in `root` and prints the findings.
///
/// # Errors
///
/// Returns an error if there are findings or if a file cannot be read.
pub fn run(root: &Path) -> Result<()> {
    let files = files::list(root)?;
    let findings = check(&files, LONG_FILES);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in {} files", findings.len(), files.len());
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

/// Returns the findings for `files`, sorted by path and line.
pub fn check(files: &[SourceFile], long_files: &[LongFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        text::check(file, long_files, &mut findings);
        dependencies::check(file, &mut findings);
        libraries::check(file, &mut findings);
        words::check(file, &mut findings);
    }
    for long in long_files {
        let lines = files
            .iter()
            .find(|file| file.path == long.path)
            .and_then(SourceFile::text)
            .map_or(0, |text| text.lines().count());
        if lines <= MAX_LINES {
            findings.push(Finding {
                path: long.path.to_owned(),
                line: 0,
                message: format!("has at most {MAX_LINES} lines: remove it from LONG_FILES"),
            });
        }
    }
    findings.sort();
    findings
}
