//! Rules about the source code that rustfmt and clippy do not check. Each finding names a fix.
//!
//! [`check`] reads no files itself, so that tests can pass it any paths and contents.

mod cycles;
mod lines;
mod manifests;
mod words;

use anyhow::{Result, bail};
use regex::Regex;
use std::fmt::{self, Display};
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
        let tests = Regex::new(r"(?m)^#\[cfg\((test|all\(test.*)\)\]\s+(#\[.*\]\s+)*mod \w+ \{");
        let tests = tests.expect("a valid pattern").find(&self.text);
        &self.text[..tests.map_or(self.text.len(), |found| found.start())]
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path of the file or crate, relative to the project's root, with forward slashes.
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

/// Maximum number of lines of a file in a `src` directory, without its unit tests. Most files should
/// have 100 to 300 lines and a single subject.
const MAX_LINES: usize = 400;

/// Maximum size of a file in the repository, in bytes.
const MAX_BYTES: u64 = 3 << 20;

/// Checks every file that git tracks or would track, and prints the findings.
///
/// # Errors
///
/// Returns an error if there are findings, without git, or if a file cannot be read.
pub fn run(sh: &Shell) -> Result<()> {
    let listed = cmd!(sh, "git ls-files -z --cached --others --exclude-standard")
        .quiet()
        .read()?;
    let (mut files, mut findings) = (Vec::new(), Vec::new());
    for path in listed.split_terminator('\0') {
        // Git also lists links, and deleted files whose deletion is not yet staged.
        let metadata = std::fs::symlink_metadata(sh.current_dir().join(path));
        let Some(metadata) = metadata.ok().filter(|metadata| metadata.is_file()) else {
            continue;
        };
        // Binary files are checked for their size only.
        let text = String::from_utf8(sh.read_binary_file(path)?).unwrap_or_default();
        let file = SourceFile {
            path: path.to_owned(),
            text,
        };
        if metadata.len() > MAX_BYTES {
            findings.push(file.finding(
                0,
                format!("has more than {MAX_BYTES} bytes: too large for the repository"),
            ));
        }
        files.push(file);
    }
    findings.extend(check(&files));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("{} files are tidy", files.len()),
        1 => bail!("1 finding in {} files", files.len()),
        count => bail!("{count} findings in {} files", files.len()),
    }
    Ok(())
}

/// Returns the findings for `files`, sorted by path and line.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let words = words::Rules::new();
    let lines = lines::Rules::new();
    for file in files {
        lines.check(file, &mut findings);
        manifests::check(file, &mut findings);
        words.check(file, &mut findings);
    }
    findings.extend(cycles::check(files));
    findings.sort();
    findings
}
