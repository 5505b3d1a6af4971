//! Words that the project does not use, each with its replacement.
//!
//! The rule applies to Rust, Markdown, TOML and Python. It ignores case and also looks inside
//! identifiers: `FreshHead` and `fresh_head` both contain the word `fresh`, but `refresh` does not.
//! This file and its tests are exempt, because they have to name the words.

use super::{Finding, SourceFile};

/// Files that may contain the words.
const EXEMPT: [&str; 2] = ["xtask/src/tidy/words.rs", "xtask/tests/tidy_words.rs"];

/// Words to avoid, matched as whole words, with their replacements.
const WORDS: &[(&str, &str)] = &[
    ("afresh", "again"),
    ("analyse", "analyze"),
    ("analysed", "analyzed"),
    ("analysing", "analyzing"),
    ("anew", "again"),
    ("beside", "next to"),
    ("fresh", "new, or newly initialized"),
    ("freshly", "newly"),
    ("picture", "image"),
    ("pictured", "shown"),
    ("pictures", "images"),
    ("whoever", "the caller, the user, or any process that"),
];

/// Phrases to avoid, matched as consecutive words, with their replacements.
const PHRASES: &[(&[&str], &str)] = &[
    (&["for", "want", "of"], "without, or because there is no"),
    (&["goes", "on"], "continues"),
    (&["told", "of"], "reported to"),
];

/// Beginnings of words in British spelling, with their American spelling.
const STEMS: &[(&str, &str)] = &[
    ("artefact", "artifact"),
    ("behaviour", "behavior"),
    ("cancelled", "canceled"),
    ("cancelling", "canceling"),
    ("catalogue", "catalog"),
    ("centred", "centered"),
    ("centre", "center"),
    ("centring", "centering"),
    ("colour", "color"),
    ("favour", "favor"),
    ("grey", "gray"),
    ("honour", "honor"),
    ("judgement", "judgment"),
    ("labelled", "labeled"),
    ("labelling", "labeling"),
    ("licence", "license"),
    ("modelled", "modeled"),
    ("modelling", "modeling"),
    ("neighbour", "neighbor"),
    ("unlabelled", "unlabeled"),
];

/// Word endings that American English spells with a z.
const ENDINGS: &[&str] = &[
    "isations", "isation", "isable", "ising", "isers", "iser", "ised", "ises", "ise",
];

/// Stems of words in -ise that American English spells the same: noise, raise, precise. All words
/// in -wise are accepted too.
const SAME_IN_AMERICAN: &[&str] = &[
    "advert", "adv", "appra", "appr", "ar", "bru", "chast", "circumc", "comprom", "compr", "conc",
    "cr", "cru", "d", "dem", "deno", "desp", "dev", "disgu", "enterpr", "exc", "exerc", "expert",
    "franch", "gu", "impov", "imprec", "improv", "inc", "m", "merchand", "no", "parad", "po",
    "pra", "prec", "prem", "prom", "r", "ra", "repr", "rev", "sunr", "superv", "surpr", "telev",
    "treat", "unprom", "unsuperv", "v", "val",
];

/// Checks one file, adding to `findings`.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    let Some(text) = file.text() else {
        return;
    };
    if !file.ends_with(&[".rs", ".md", ".toml", ".py"]) || EXEMPT.contains(&file.path.as_str()) {
        return;
    }
    let words = split(text);
    for (index, word) in words.iter().enumerate() {
        let mut report = |avoided: &str, replacement: &str| {
            findings.push(Finding {
                path: file.path.clone(),
                line: word.line,
                message: format!("`{avoided}`: write {replacement}"),
            });
        };
        if let Some(replacement) = replacement(&word.text) {
            report(&word.text, &replacement);
        }
        for (phrase, replacement) in PHRASES {
            let here = words[index..].iter().take(phrase.len());
            let continues = here.clone().skip(1).all(|word| word.follows_directly);
            if continues
                && here
                    .map(|word| word.text.as_str())
                    .eq(phrase.iter().copied())
            {
                report(&phrase.join(" "), replacement);
            }
        }
    }
}

/// The replacement of a lowercase `word`, or `None` if the word is accepted.
fn replacement(word: &str) -> Option<String> {
    let listed = WORDS.iter().find(|(listed, _)| *listed == word);
    if let Some((_, replacement)) = listed {
        return Some((*replacement).to_owned());
    }
    for (british, american) in STEMS {
        if let Some(rest) = word.strip_prefix(british) {
            return Some(format!("{american}{rest}"));
        }
    }
    let (ending, stem) = ENDINGS
        .iter()
        .find_map(|ending| Some((ending, word.strip_suffix(ending)?)))?;
    let is_same = stem.is_empty() || stem.ends_with('w') || SAME_IN_AMERICAN.contains(&stem);
    (!is_same).then(|| format!("{stem}{}", ending.replacen('s', "z", 1)))
}

/// A word of a text, or a part of an identifier.
struct Word {
    /// The letters, in lowercase.
    text: String,
    /// Line number, from 1.
    line: usize,
    /// Whether only white space, comment markers, backslashes and underscores separate this word
    /// from the previous one.
    follows_directly: bool,
}

/// Splits a text into words, and identifiers in `snake_case` and `CamelCase` into their parts.
fn split(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut line, mut follows_directly, mut is_inside) = (1, false, false);
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        // The letter of an escape sequence such as `\n` is not part of the next word.
        if letter.is_alphabetic() && before != '\\' {
            let next_is_lowercase = letters.peek().is_some_and(|next| next.is_lowercase());
            let begins = letter.is_uppercase()
                && (before.is_lowercase() || (before.is_uppercase() && next_is_lowercase));
            match words.last_mut().filter(|_| is_inside && !begins) {
                Some(word) => word.text.extend(letter.to_lowercase()),
                None => words.push(Word {
                    text: letter.to_lowercase().collect(),
                    line,
                    follows_directly,
                }),
            }
            (is_inside, follows_directly) = (true, true);
        } else {
            is_inside = false;
            follows_directly &= letter.is_whitespace() || "_/!#\\".contains(letter);
            line += usize::from(letter == '\n');
        }
        before = letter;
    }
    words
}
