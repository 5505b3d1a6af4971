//! `docs/errors.md`: every row is run with the real program, and must still answer word for word.
//!
//! The cases are in `errors/cases.rs`; the document is their answers. After a message was changed on purpose,
//! `WAGGLE_BLESS=1 cargo test --workspace --test errors` writes the document anew; read the difference before it is
//! committed.

// The document has a Unix system's words in it, and links and devices among its cases.
#![cfg(unix)]

mod harness;

#[path = "errors/cases.rs"]
mod cases;
#[path = "errors/forge.rs"]
mod forge;

use std::fmt::Write as _;
use std::path::Path;

use cases::{CASES, Case};
use harness::Place;

const HEAD: &str = "\
# What can be wrong, and what is said about it

Every row is a test: it prepares the input, runs the command with the real program, and compares exit code and
message with this table (`crates/cli/tests/errors.rs`). `data` is a good data set and `model.safetensors` a good model
where nothing else is said; line breaks are shown as ` ⏎ `. Exit codes: 1 failed, 2 wrong usage.
";

#[test]
fn every_bad_input_is_answered_as_documented() {
    let trained = trained_model();
    let mut table = HEAD.to_string();
    let mut section = "";
    let mut rows = 0;
    for case in CASES {
        if case.section != section {
            section = case.section;
            let _ = write!(
                table,
                "\n## {section}\n\n| what is wrong | command | exit | message |\n|---|---|---|---|\n"
            );
        }
        table.push_str(&row(case, &trained));
        rows += 1;
    }
    assert!(rows >= 40, "{rows} rows");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    if std::env::var_os("WAGGLE_BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap();
    let pairs = documented.lines().zip(table.lines());
    for (number, (documented, found)) in pairs.enumerate() {
        assert_eq!(documented, found, "line {} of docs/errors.md", number + 1);
    }
    assert_eq!(documented, table);
}

/// The bytes of a model that `train` wrote.
fn trained_model() -> Vec<u8> {
    let place = Place::with_stripes();
    let arguments =
        "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    place.succeeds(&arguments.split(' ').collect::<Vec<_>>());
    place.read("runs/train/model.safetensors")
}

/// Runs a case in a place of its own; its row.
fn row(case: &Case, model: &[u8]) -> String {
    let place = Place::with_stripes();
    place.write("model.safetensors", model);
    (case.prepare)(&place);
    let arguments: Vec<&str> = case.command.split_whitespace().collect();
    let output = place.waggle(&arguments);
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    let code = output.status.code();
    assert!(
        code == Some(1) || code == Some(2),
        "{}: {code:?}\n{message}",
        case.what
    );
    assert!(!message.contains("panicked"), "{}: {message}", case.what);
    assert!(
        !place.path("runs").exists(),
        "{}: a run that cannot start leaves no directory",
        case.what
    );
    assert_eq!(
        message
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        1,
        "{message}"
    );
    // Wrong usage goes on with a reminder of the usage, the same for all.
    let message = message.split("\n\n").next().unwrap_or_default();
    let place = place.path("");
    let root = place.to_string_lossy();
    let message = message
        .replace(root.trim_end_matches('/'), "PLACE")
        .trim()
        .replace('\n', " ⏎ ")
        .replace('|', "\\|");
    let message = without_temporary_names(&message);
    format!(
        "| {} | `waggle {}` | {} | {message} |\n",
        case.what,
        case.command,
        code.unwrap_or_default()
    )
}

/// Files are written beside their places under random names, which some systems' errors repeat.
fn without_temporary_names(message: &str) -> String {
    const PREFIX: &str = ".waggle-";
    match message.split_once(PREFIX) {
        Some((before, after)) => {
            let name = after
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(after.len());
            format!("{before}{PREFIX}…{}", &after[name..])
        }
        None => message.to_string(),
    }
}
