//! Rules about single files: how they open, how long they are, what must not be in them.

use super::{Finding, LongFile, MAX_BYTES, MAX_LINES, SourceFile, TEST_COMMAND, TRAIN_COMMAND};

/// What must not be in Rust code, and why. Put together from halves, so that this file passes.
const UNFINISHED: [&str; 3] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];

/// Beginnings of paths that exist on somebody's machine only.
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
            format!("has {size} bytes; files over {MAX_BYTES} stay out of the repository"),
        );
    }
    let Some(text) = file.text() else {
        return;
    };

    if file.ends_with(&[".rs"]) {
        if !opens_with_docs(text) {
            report(1, "must open with `//!`: say what the file is".to_owned());
        }
        let lines = text.lines().count();
        let allowed = long_files.iter().any(|long| long.path == file.path);
        if file.is_under("src") && lines > MAX_LINES && !allowed {
            report(
                0,
                format!(
                    "has {lines} lines, over {MAX_LINES}: is it one concept? Split it, or list it with a reason"
                ),
            );
        }
    }
    if file.path == "README.md" {
        for command in [TEST_COMMAND, TRAIN_COMMAND] {
            if !text.contains(command) {
                report(0, format!("must show the command `{command}`"));
            }
        }
    }
    if !text.is_empty() && !text.ends_with('\n') && is_written(file) {
        report(0, "must end with a line break".to_owned());
    }
    for (index, line) in text.split('\n').enumerate() {
        let mut report = |message: String| report(index + 1, message);
        if is_written(file) && line.ends_with([' ', '\t', '\r']) {
            report("has blanks at its end".to_owned());
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            report(format!("names a path of one machine, {path}"));
        }
        if is_configuration(file) && line.contains(TARGET_CPU) {
            report(format!("sets {TARGET_CPU}; kernels are chosen at run time"));
        }
        if file.ends_with(&[".rs"]) {
            if let Some(found) = UNFINISHED.iter().find(|macro_| line.contains(*macro_)) {
                report(format!("has {found}...): finish it"));
            }
            if line.contains(IGNORED) {
                report(format!("{IGNORED} needs a reason: #[ignore = \"...\"]"));
            }
        }
    }
}

/// Whether the first line, after attributes for rustc alone, is inner documentation.
fn opens_with_docs(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

/// Text that people write; data files keep the form they have.
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

/// Files by which compiler flags can be set.
fn is_configuration(file: &SourceFile) -> bool {
    file.ends_with(&[".toml", "build.rs", ".sh", ".yml", ".yaml"])
        || file.is_under(".cargo")
        || file.is_under(".ci")
}

/// Whether `line` has `path` as the beginning of an absolute path, not within a longer word.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| {
            letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | '/' | '}' | '>')
        })
    })
}
