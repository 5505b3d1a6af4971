//! Words that the project does not use, each with its replacement.
//!
//! The rule applies to Rust, Markdown, TOML and Python. It ignores case and also looks inside
//! identifiers: `FreshHead` and `fresh_head` both contain the word `fresh`, but `refresh` does not.
//! This file and the tests of `tidy` are exempt, because they have to name the words.

use super::{Finding, SourceFile};
use regex::Regex;

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

/// The compiled patterns.
pub(super) struct Rules {
    camel_case: Regex,
    any: Regex,
    words: Vec<(Regex, &'static str)>,
}

impl Rules {
    pub(super) fn new() -> Self {
        let compile = |pattern: &str| Regex::new(pattern).expect("a valid pattern");
        let all: Vec<&str> = WORDS.iter().map(|(pattern, _)| *pattern).collect();
        let words =
            WORDS.map(|(pattern, replacement)| (compile(&format!("^({pattern})$")), replacement));
        Self {
            camel_case: compile("([a-z])([A-Z])|([A-Z])([A-Z][a-z])"),
            any: compile(&format!(
                r"\b({})\b",
                all.join("|").replace(' ', r"[\s_/!#]+")
            )),
            words: words.into(),
        }
    }

    /// Checks one file, adding to `findings`.
    pub(super) fn check(&self, file: &SourceFile, findings: &mut Vec<Finding>) {
        let exempt = ["xtask/src/tidy/words.rs", "xtask/tests/tidy.rs"];
        let is_checked = [".rs", ".md", ".toml", ".py"]
            .iter()
            .any(|end| file.path.ends_with(end));
        if !is_checked || exempt.contains(&file.path.as_str()) {
            return;
        }
        // Split identifiers. The letter of an escape sequence such as `\n` is not part of a word.
        let is_between = |c: char| c == '_' || c.is_ascii_digit();
        let text = file.text.replace(r"\n", "  ").replace(is_between, " ");
        let text = self
            .camel_case
            .replace_all(&text, "$1$3 $2$4")
            .to_lowercase();
        for found in self.any.find_iter(&text) {
            let line = 1 + text[..found.start()].matches('\n').count();
            let words: Vec<&str> = found
                .as_str()
                .split(|c: char| !c.is_alphanumeric())
                .collect();
            let words = words
                .join(" ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            let rule = self
                .words
                .iter()
                .find(|(pattern, _)| pattern.is_match(&words));
            let replacement = rule.map_or("another word", |(_, replacement)| replacement);
            findings.push(file.finding(line, format!("`{words}`: write {replacement}")));
        }
    }
}
