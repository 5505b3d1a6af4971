//! Words that the project does not use, each with its replacement.
//!
//! The rule applies to Rust, Markdown, TOML and Python. It ignores case and also looks inside
//! identifiers: `FreshHead` and `fresh_head` both contain the word `fresh`, but `refresh` does not.
//! This file and the tests of `tidy` are exempt, because they have to name the words.

use super::{SourceFile, compile};

/// Patterns of words and phrases in lowercase, with their replacements.
const WORDS: [(&str, &str); 14] = [
    ("anew|afresh", "again"),
    ("beside", "next to"),
    ("for want of", "without, or because there is no"),
    ("fresh(ly)?", "new, or newly initialized"),
    ("goes on", "continues"),
    ("pictures?|pictured", "image"),
    ("told of", "reported to"),
    ("whoever", "the caller, the user, or any process that"),
    ("grey(s|ish|scale)?", "gray"),
    (
        "(behavi|col|fav|hon|neighb)our[a-z]*",
        "the American spelling, -or",
    ),
    (
        "(cancel|label|model|unlabel)l(ed|ing)",
        "the American spelling, with one l",
    ),
    (
        "centre[sd]?|centring|catalogues?|artefacts?|judgements?|licences?",
        "the American spelling",
    ),
    // Verbs in -ise. Words that keep their s, such as noise, precise and enterprise, do not match.
    (
        r"[a-z]*([a-z][ln]|im|dom|tom|[a-z][aeou]r|ant|mat|has|hes|ard)is(e|ed|es|ing|er|ers|able|ation|ations)",
        "the American spelling, -ize",
    ),
    ("[a-z]*alys(e|ed|ing)", "the American spelling, -yze"),
];

/// Returns the words in `files` that have a replacement.
pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let words = WORDS.map(|(words, replacement)| {
        let words = words.replace(' ', r"[\s/!#]+");
        (compile(&format!(r"\b({words})\b")), replacement)
    });
    let checked = compile(r"\.(rs|md|toml|py)$");
    let camel_case = compile("([a-z])([A-Z])|([A-Z])([A-Z][a-z])");
    let exempt = ["xtask/src/tidy/words.rs", "xtask/tests/tidy.rs"];
    let mut findings = Vec::new();
    for SourceFile { path, text } in files {
        if !checked.is_match(path) || exempt.contains(&path.as_str()) {
            continue;
        }
        // Split identifiers. The letter of an escape sequence such as `\n` is not part of a word.
        let is_between = |c: char| c == '_' || c.is_ascii_digit();
        let text = text.replace(r"\n", "  ").replace(is_between, " ");
        let text = camel_case.replace_all(&text, "$1$3 $2$4").to_lowercase();
        for (pattern, replacement) in &words {
            for found in pattern.find_iter(&text) {
                let line = 1 + text[..found.start()].matches('\n').count();
                let word = found.as_str();
                findings.push(format!("{path}:{line}: {word:?}: write {replacement}"));
            }
        }
    }
    findings
}
