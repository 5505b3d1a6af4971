//! Rules for the library crates: they print nothing and do not know the command line.

use super::{Finding, SourceFile};

/// Source directories of the library crates.
const LIBRARIES: [&str; 4] = [
    "crates/dataset/src/",
    "crates/sample/src/",
    "crates/trainer/src/",
    "crates/vgg/src/",
];

const PRINTING: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];

/// Checks one file, adding to `findings`. Comments and unit tests are not checked.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    let is_library = LIBRARIES
        .iter()
        .any(|folder| file.path.starts_with(folder) && file.ends_with(&[".rs"]));
    let Some(text) = file.text().filter(|_| is_library) else {
        return;
    };
    let code = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !is_test_attribute(line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"));
    for (index, line) in code {
        let mut report = |message: String| {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                message,
            });
        };
        if let Some(name) = PRINTING.iter().find(|name| has_macro(line, name)) {
            report(format!("a library must not print: remove `{name}`"));
        }
        if has_flag(line) {
            report(
                "a library must not name a command-line flag: state the fact, and let `cli` name the flag"
                    .to_owned(),
            );
        }
    }
}

/// Whether `line` begins the unit tests, which are at the end of a file.
fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,")
}

/// Whether `line` calls the macro `name`. A longer name that ends with `name` is not a match.
fn has_macro(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether `line` contains a long flag: `--` and a letter. In Rust code, that occurs only in string
/// literals.
fn has_flag(line: &str) -> bool {
    line.match_indices("--").any(|(at, _)| {
        line[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
            && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-')
    })
}
