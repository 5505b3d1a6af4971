//! Rules for single files and lines: documentation, length, white space, and text that must not
//! occur.

use super::{Finding, MAX_LINES, SourceFile};
use regex::Regex;

/// A rule for the lines of some files.
struct Rule {
    /// Pattern of the paths of the files.
    files: &'static str,
    /// Pattern of a line that breaks the rule.
    line: &'static str,
    message: &'static str,
}

/// Files that are written by hand.
const WRITTEN: &str = r"\.(rs|toml|md|sh|py)$|^\.ci/run$|^\.git";

const RULES: [Rule; 8] = [
    Rule {
        files: r"\.rs$",
        line: r"\b(todo|unimplemented|dbg)!\(",
        message: "is unfinished: finish the code",
    },
    Rule {
        files: r"\.rs$",
        line: r"#\[ignore\]",
        message: "an ignored test needs a reason: #[ignore = \"...\"]",
    },
    Rule {
        files: "",
        line: r"(^|[^\w.\-/}>])/(work|root)/",
        message: "contains an absolute path of one machine: use a relative one",
    },
    Rule {
        files: WRITTEN,
        line: r"[ \t\r]$",
        message: "has trailing white space",
    },
    Rule {
        files: r"\.(toml|sh|ya?ml)$|build\.rs$|^\.cargo/|^\.ci/",
        line: "target-cpu",
        message: "sets the CPU to compile for: kernels are chosen at run time",
    },
    Rule {
        files: LIBRARIES,
        line: r"\be?print(ln)?!",
        message: "a library must not print",
    },
    Rule {
        files: LIBRARIES,
        line: r"(^|[^\w\-])--[a-z]",
        message: "a library must not name a command-line flag: state the fact, and let `cli` name the flag",
    },
    Rule {
        files: r"^crates/(dataset|vgg)/src/",
        line: r"(^|[^\w:])trainer::",
        message: "only src/trainer.rs may use the crate trainer, behind the feature `trainer`",
    },
];

/// Source files of the library crates. Rules for these files do not check comments and unit tests.
const LIBRARIES: &str = "^crates/(dataset|fetch|kernels|sample|trainer|vgg)/src/";

/// The compiled rules.
pub(super) struct Rules(Vec<(Regex, Regex, &'static str)>);

impl Rules {
    pub(super) fn new() -> Self {
        let compile = |pattern| Regex::new(pattern).expect("a valid pattern");
        let rules = RULES
            .iter()
            .map(|rule| (compile(rule.files), compile(rule.line), rule.message));
        Self(rules.collect())
    }

    /// Checks one file, adding to `findings`.
    pub(super) fn check(&self, file: &SourceFile, findings: &mut Vec<Finding>) {
        let mut report = |line, message: String| findings.push(file.finding(line, message));
        if file.path.ends_with(".rs") {
            let first = file
                .text
                .lines()
                .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
            if !first.is_some_and(|line| line.starts_with("//!")) {
                report(
                    1,
                    "must begin with `//!` documentation: say what the file is for".to_owned(),
                );
            }
            let lines = file.code().lines().count();
            if file.path.contains("/src/") && lines > MAX_LINES {
                report(
                    0,
                    format!("has {lines} lines, more than {MAX_LINES}: split it by subject"),
                );
            }
        }
        if file.path == "README.md" {
            for command in [
                "cargo test --workspace",
                "cargo run --release -p cli -- train",
            ] {
                if !file.text.contains(command) {
                    report(0, format!("must contain the command `{command}`"));
                }
            }
        }
        for (files, pattern, message) in &self.0 {
            let is_generated = file.path.contains("/golden/");
            if is_generated
                || !files.is_match(&file.path)
                || file.path.ends_with("src/trainer.rs") && message.starts_with("only")
            {
                continue;
            }
            if files.as_str() == WRITTEN && !file.text.is_empty() && !file.text.ends_with('\n') {
                report(0, "must end with a newline".to_owned());
            }
            let code_only = files.as_str().starts_with("^crates");
            let text = if code_only { file.code() } else { &file.text };
            for (index, line) in text.split('\n').enumerate() {
                if !(code_only && line.trim_start().starts_with("//")) && pattern.is_match(line) {
                    report(index + 1, (*message).to_owned());
                }
            }
        }
    }
}
