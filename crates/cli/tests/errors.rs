//! Runs `waggle` on every case of `docs/errors.md` and compares the output with the document.
//!
//! The cases are in `errors/cases.rs`. After an intended change to a message, run
//! `WAGGLE_BLESS=1 cargo test -p cli --test errors` to update the document, and review the diff.

// The document contains error messages of Unix, and some cases need symbolic links and devices.
#![cfg(unix)]

mod harness;

#[path = "errors/cases.rs"]
mod cases;
#[path = "errors/forge.rs"]
mod forge;

use std::fmt::Write as _;
use std::path::Path;

use cases::{CASES, Case};
use harness::TestDir;

const HEAD: &str = "\
# Errors

What `waggle` prints on standard error for bad input. The test `crates/cli/tests/errors.rs` prepares the input of each
entry, runs the command, and compares the exit code and the message with this document. Unless the entry says otherwise,
`data` is a valid data set, and `tiny.safetensors` and `model.safetensors` are valid weights and a valid model. `PLACE`
stands for the current folder. The usage text after usage errors is omitted. Exit codes: 1 failure, 2 usage error.
";

#[test]
fn every_error_is_printed_as_documented() {
    let trained = trained_model();
    let mut document = HEAD.to_string();
    let mut section = "";
    for case in CASES {
        if case.section != section {
            section = case.section;
            let _ = writeln!(document, "\n## {section}");
        }
        document.push_str(&entry(case, &trained));
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    if std::env::var_os("WAGGLE_BLESS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap();
    let pairs = documented.lines().zip(document.lines());
    for (number, (documented, actual)) in pairs.enumerate() {
        assert_eq!(documented, actual, "line {} of docs/errors.md", number + 1);
    }
    assert_eq!(documented, document);
}

/// Runs the baseline of a transfer stage and returns the bytes of the model file that it writes.
fn trained_model() -> Vec<u8> {
    let dir = TestDir::with_stripes();
    let arguments =
        "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    dir.succeeds(&arguments.split(' ').collect::<Vec<_>>());
    dir.read("runs/train/model.safetensors")
}

/// Runs `case` in a new directory with the model file `model`, and returns the entry of the case in
/// `docs/errors.md`.
fn entry(case: &Case, model: &[u8]) -> String {
    let dir = TestDir::with_stripes();
    dir.write("model.safetensors", model);
    (case.prepare)(&dir);
    // As in a shell, words such as NAME=VALUE before the command set environment variables.
    let (variables, command) = case
        .command
        .split_once("waggle ")
        .unwrap_or(("", case.command));
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let variables = variables
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let mut command = dir.command(&arguments);
    for name in ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"] {
        command.env_remove(name);
    }
    let output = command
        .env("NO_PROXY", "127.0.0.1")
        .envs(variables)
        .output();
    let output = output.expect("the program starts");
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    let code = output.status.code();
    let command = match case.command.contains("waggle ") {
        true => case.command.to_string(),
        false => format!("waggle {}", case.command),
    };
    assert!(
        code == Some(1) || code == Some(2),
        "{}: {code:?}\n{message}",
        case.what
    );
    assert!(!message.contains("panicked"), "{}: {message}", case.what);
    assert!(
        !dir.path("runs").exists(),
        "{}: the command created a run directory",
        case.what
    );
    let errors = message.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{message}");
    // After a usage error, clap prints the usage of the command and a hint to pass `--help`. The
    // document omits both.
    let message = message.split("\n\nUsage: ").next().unwrap_or_default();
    let message = message.split("\n\nFor more").next().unwrap_or_default();
    let dir = dir.path("");
    let root = dir.to_string_lossy();
    let message = message.replace(root.trim_end_matches('/'), "PLACE");
    format!(
        "\n### {}\n\n```console\n$ {command}    # exit code {}\n{}\n```\n",
        case.what,
        code.unwrap_or_default(),
        message.trim()
    )
}
