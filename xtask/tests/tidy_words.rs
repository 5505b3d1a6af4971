//! `tidy`'s rule about words and spelling. This file is exempt from the rule.

use xtask::tidy::{SourceFile, check};

/// The messages of the findings for a file that is in no list of exceptions.
fn findings(path: &str, text: &str) -> Vec<String> {
    let file = SourceFile {
        path: path.to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    check(&[file], &[])
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Expects one finding for `text`, which suggests `replacement`.
#[track_caller]
fn avoided(text: &str, replacement: &str) {
    let findings = findings("a/b.md", &format!("{text}\n"));
    assert_eq!(findings.len(), 1, "{text}: {findings:?}");
    assert!(
        findings[0].ends_with(&format!("write {replacement}")),
        "{text}: {findings:?}"
    );
}

#[track_caller]
fn accepted(text: &str) {
    assert_eq!(findings("a/b.md", &format!("{text}\n")), [""; 0]);
}

#[test]
fn avoided_words_are_found_in_any_case() {
    avoided("a picture", "image");
    avoided("PICTURES", "images");
    avoided("The dog's grey fur", "gray");
    avoided("Colourful", "colorful");
    avoided("a fresh head", "new, or newly initialized");
    accepted("refresh the image besides");
}

#[test]
fn identifiers_are_split_into_words() {
    avoided("fn draw_picture(x: u8)", "image");
    avoided("PictureReader", "image");
    avoided("RGBPicture2", "image");
    avoided(r"\nanew", "again");
    accepted("refreshed_picturesque");
}

#[test]
fn phrases_are_found_across_lines_but_not_across_punctuation() {
    avoided("It goes on.", "continues");
    avoided("for want\n/// of memory", "without, or because there is no");
    avoided("goes_on", "continues");
    accepted("It goes, on Sundays. For what we want, of course.");
}

#[test]
fn spelling_is_american() {
    avoided("normalise", "normalize");
    avoided("Initialised", "initialized");
    avoided("recognising", "recognizing");
    avoided("optimisations", "optimizations");
    avoided("serialisable", "serializable");
    avoided("the organisation", "organization");
    avoided("behaviours", "behaviors");
    avoided("centred", "centered");
    avoided("unlabelled", "unlabeled");
    accepted(
        "noise raised otherwise precise exercise promised likewise wise rises advertising compromise devise \
         revised concise disguised supervised comprises expertise premises surprising enterprise franchise \
         arise praise disable visable element-wise clockwise denoised improvise analyses miser paradise",
    );
}

#[test]
fn only_prose_and_code_are_checked() {
    for path in ["a/b.rs", "a/b.md", "a/b.toml", "a/b.py"] {
        assert_eq!(findings(path, "//! A picture.\n").len(), 1, "{path}");
    }
    for path in ["a/b.json", "a/b.txt", "xtask/tests/tidy_words.rs"] {
        assert_eq!(findings(path, "//! A picture.\n"), [""; 0], "{path}");
    }
}

#[test]
fn a_finding_names_its_line() {
    assert_eq!(
        findings("a/b.md", "one\ntwo anew\n"),
        ["a/b.md:2: `anew`: write again"]
    );
}
