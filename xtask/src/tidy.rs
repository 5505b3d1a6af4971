//! Rules about the source that neither rustfmt nor clippy knows; each names the place and the remedy.
//!
//! [`check`] is pure: it sees paths and contents only, so that the tests feed it made-up files.

mod dependencies;
mod files;
mod text;

pub use files::SourceFile;

use anyhow::{Result, bail};
use std::fmt::{self, Display};
use std::path::Path;

/// The command of the README that runs all tests.
pub const TEST_COMMAND: &str = "cargo test --workspace";

/// The command of the README that does the main job.
pub const TRAIN_COMMAND: &str = "cargo run --release -p cli -- train";

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the project's root, with forward slashes.
    pub path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
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

/// A file that may be longer than the rest, and why.
pub struct LongFile {
    /// From the project's root.
    pub path: &'static str,
    /// Why it is not split.
    pub reason: &'static str,
}

/// Files under a `src` folder that may have more than [`MAX_LINES`].
pub const LONG_FILES: &[LongFile] = &[LongFile {
    path: "crates/dataset/src/sample/animals.rs",
    reason: "one short drawing after the other, all of one kind",
}];

/// The longest file under a `src` folder. A reader wants 100 to 300 lines, one concept.
pub const MAX_LINES: usize = 400;

/// The largest file in the repository.
pub const MAX_BYTES: u64 = 3 << 20;

/// Checks the project in `root` and prints what it finds.
///
/// # Errors
/// When a rule is broken or a file cannot be read.
pub fn run(root: &Path) -> Result<()> {
    let files = files::list(root)?;
    let findings = check(&files, LONG_FILES);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("rules broken: {}", findings.len());
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

/// All broken rules in `files`, sorted by place.
pub fn check(files: &[SourceFile], long_files: &[LongFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        text::check(file, long_files, &mut findings);
        dependencies::check(file, &mut findings);
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
                message: "is not long any more: take it off the list of long files".to_owned(),
            });
        }
    }
    findings.sort();
    findings
}
