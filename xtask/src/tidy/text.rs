//! Rules for single files: module documentation, length, white space, and text that must not occur.

use super::{Finding, LongFile, MAX_BYTES, MAX_LINES, SourceFile, TEST_COMMAND, TRAIN_COMMAND};

/// Macros that mark unfinished code. The names are concatenated so that this file passes its own
/// check.
const UNFINISHED: [&str; 3] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];

/// Prefixes of absolute paths that exist only on a developer's machine.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

const IGNORED: &str = concat!("#[ig", "nore]");
const TARGET_CPU: &str = concat!("target", "-cpu");

/// Checks one file, adding to `findings`.
pub(super) fn check(file: &SourceFile, long_files: &[LongFile], findings: &mut Vec<Finding>) {
    let mut report = |line: usize, message: String| {
        findings.push(Finding {
            path: file.path.clone(),
            line,
            message,
        });
    };
    let size = file.bytes.len() as u64;
    if size > MAX_BYTES {
        report(
            0,
            format!(
                "has {size} bytes: files larger than {MAX_BYTES} bytes do not belong in the repository"
            ),
        );
    }
    let Some(text) = file.text() else {
        return;
    };

    if file.ends_with(&[".rs"]) {
        if !opens_with_docs(text) {
            report(
                1,
                "must begin with `//!` documentation: say what the file is for".to_owned(),
            );
        }
        let lines = text.lines().count();
        let allowed = long_files.iter().any(|long| long.path == file.path);
        if file.is_under("src") && lines > MAX_LINES && !allowed {
            report(
                0,
                format!(
                    "has {lines} lines, more than {MAX_LINES}: split it by subject, or add it to LONG_FILES with a reason"
                ),
            );
        }
    }
    if file.path == "README.md" {
        for command in [TEST_COMMAND, TRAIN_COMMAND] {
            if !text.contains(command) {
                report(0, format!("must contain the command `{command}`"));
            }
        }
    }
    if !text.is_empty() && !text.ends_with('\n') && is_written(file) {
        report(0, "must end with a newline".to_owned());
    }
    for (index, line) in text.split('\n').enumerate() {
        let mut report = |message: String| report(index + 1, message);
        if is_written(file) && line.ends_with([' ', '\t', '\r']) {
            report("has trailing white space".to_owned());
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            report(format!(
                "contains an absolute path that begins with {path}: use a relative one"
            ));
        }
        if is_configuration(file) && line.contains(TARGET_CPU) {
            report(format!("sets {TARGET_CPU}: kernels are chosen at run time"));
        }
        if file.ends_with(&[".rs"]) {
            if let Some(unfinished) = UNFINISHED.iter().find(|macro_| line.contains(*macro_)) {
                report(format!("contains {unfinished}...): finish the code"));
            }
            if line.contains(IGNORED) {
                report(format!("{IGNORED} needs a reason: #[ignore = \"...\"]"));
            }
        }
    }
}

/// Whether the first line that is neither blank nor an inner attribute is inner documentation.
fn opens_with_docs(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

/// Whether the file is written by hand. Generated data files keep their format.
fn is_written(file: &SourceFile) -> bool {
    file.ends_with(&[
        ".rs",
        ".toml",
        ".md",
        ".sh",
        ".ci/run",
        ".gitignore",
        ".gitattributes",
    ]) && !file.is_under("golden")
}

/// Whether the file can set compiler flags.
fn is_configuration(file: &SourceFile) -> bool {
    file.ends_with(&[".toml", "build.rs", ".sh", ".yml", ".yaml"])
        || file.is_under(".cargo")
        || file.is_under(".ci")
}

/// Whether `line` contains an absolute path that begins with `path`.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| {
            letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | '/' | '}' | '>')
        })
    })
}
