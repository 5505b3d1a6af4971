//! Each rule of `tidy` on made-up files: what breaks it, and what looks alike and does not.

use xtask::tidy::{Finding, LongFile, MAX_BYTES, SourceFile, check};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        bytes: text.as_bytes().to_vec(),
    }
}

fn findings(path: &str, text: &str) -> Vec<Finding> {
    check(&[file(path, text)], &[])
}

/// Expects one finding, on `line`, that mentions `part`.
#[track_caller]
fn broken(path: &str, text: &str, line: usize, part: &str) {
    let findings = findings(path, text);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].line, line, "{findings:?}");
    assert!(findings[0].message.contains(part), "{findings:?}");
}

#[track_caller]
fn fine(path: &str, text: &str) {
    assert_eq!(findings(path, text), []);
}

const MEMBER: &str = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";

#[test]
fn rust_files_open_with_what_they_are() {
    broken("crates/a/src/b.rs", "use std::fs;\n", 1, "//!");
    broken("crates/a/src/b.rs", "// Not documentation.\n", 1, "//!");
    fine("crates/a/src/b.rs", "//! What it is.\nuse std::fs;\n");
    fine(
        "crates/a/src/b.rs",
        "#![allow(dead_code)]\n\n//! What it is.\n",
    );
    fine("notes.md", "No Rust.\n");
}

#[test]
fn long_files_are_split_or_explained() {
    let lines = |count: usize| format!("//! Long.\n{}", "fn f() {}\n".repeat(count - 1));
    fine("crates/a/src/b.rs", &lines(400));
    broken("crates/a/src/b.rs", &lines(401), 0, "401 lines");
    fine("crates/a/tests/b.rs", &lines(1_000));

    let long = LongFile {
        path: "crates/a/src/b.rs",
        reason: "a table",
    };
    assert_eq!(check(&[file(long.path, &lines(401))], &[long]), []);
    let long = LongFile {
        path: "crates/a/src/b.rs",
        reason: "a table",
    };
    let findings = check(&[file(long.path, &lines(400))], &[long]);
    assert!(
        findings[0].message.contains("not long any more"),
        "{findings:?}"
    );
}

#[test]
fn nothing_is_left_unfinished() {
    for name in ["todo", "unimplemented", "dbg"] {
        broken(
            "crates/a/src/b.rs",
            &format!("//! B.\nfn f() {{ {name}!() }}\n"),
            2,
            name,
        );
    }
    fine("crates/a/src/b.rs", "//! B.\nfn todo() {}\n");
}

#[test]
fn ignored_tests_have_a_reason() {
    let bare = ["#[", "ignore]"].concat();
    broken(
        "crates/a/tests/b.rs",
        &format!("//! B.\n{bare}\n"),
        2,
        "reason",
    );
    fine(
        "crates/a/tests/b.rs",
        "//! B.\n#[ignore = \"takes an hour\"]\n",
    );
}

#[test]
fn paths_of_one_machine_stay_out() {
    for folder in ["work", "root"] {
        let text = format!("See /{folder}/data.\n");
        broken(
            "README.md",
            &format!("cargo test --workspace\ncargo run --release -p cli -- train\n{text}"),
            3,
            folder,
        );
    }
    fine(
        "notes.md",
        "a/work/b and ./root/ and https://a.org/work/x\n",
    );
}

#[test]
fn blanks_and_line_breaks_are_in_order() {
    broken("a.md", "blank \n", 1, "blanks");
    broken("a.md", "windows\r\n", 1, "blanks");
    broken("a.md", "no end", 0, "line break");
    fine("a.md", "");
    // Data stay as they are.
    fine("crates/a/tests/golden/a.json", "{ } ");
}

#[test]
fn nothing_sets_the_processor() {
    let flag = ["target", "cpu=native"].join("-");
    broken(
        ".cargo/config.toml",
        &format!("rustflags = [\"-C{flag}\"]\n"),
        1,
        "run time",
    );
    broken(
        ".ci/run",
        &format!("RUSTFLAGS=-C{flag} cargo test\n"),
        1,
        "run time",
    );
    fine("notes.md", &format!("Do not use {flag}.\n"));
}

#[test]
fn large_files_stay_out() {
    let large = |bytes: u64| {
        check(
            &[SourceFile {
                path: "a.bin".to_owned(),
                bytes: vec![0; usize::try_from(bytes).unwrap()],
            }],
            &[],
        )
    };
    assert_eq!(large(MAX_BYTES), []);
    assert!(
        large(MAX_BYTES + 1)[0]
            .message
            .contains("out of the repository")
    );
}

#[test]
fn the_readme_shows_both_commands() {
    broken("README.md", "cargo test --workspace\n", 0, "-- train");
    fine(
        "README.md",
        "cargo test --workspace\ncargo run --release -p cli -- train\n",
    );
}

#[test]
fn dependencies_are_explained() {
    let start = "[workspace.dependencies]\n";
    broken(
        "Cargo.toml",
        &format!("{start}a = \"1\"\n"),
        2,
        "comment above",
    );
    fine(
        "Cargo.toml",
        &format!("{start}# For x.\na = \"1\"\nb = \"1\"\n"),
    );
    broken(
        "Cargo.toml",
        &format!("{start}# For x.\na = \"1\"\n\nb = \"1\"\n"),
        5,
        "comment above",
    );
    fine("Cargo.toml", "[workspace.package]\nversion = \"1\"\n");
}

#[test]
fn members_take_versions_and_lints_from_the_workspace() {
    let with = |text: &str| format!("{MEMBER}\n{text}");
    fine("crates/a/Cargo.toml", MEMBER);
    fine(
        "crates/a/Cargo.toml",
        &with("[dependencies]\nb.workspace = true\nc = { workspace = true, features = [\"x\"] }\n"),
    );
    broken(
        "crates/a/Cargo.toml",
        &with("[dependencies]\nb = \"1\"\n"),
        8,
        "workspace.dependencies",
    );
    broken(
        "crates/a/Cargo.toml",
        &with("[target.'cfg(unix)'.dev-dependencies]\nb = { path = \"x\" }\n"),
        8,
        "workspace.dependencies",
    );
    broken(
        "crates/a/Cargo.toml",
        &with("[dependencies.b]\nversion = \"1\"\n"),
        7,
        "one line",
    );
    broken(
        "crates/a/Cargo.toml",
        "[package]\nname = \"a\"\n",
        0,
        "lints",
    );
}

#[test]
fn findings_are_sorted_and_name_their_place() {
    let files = [file("b.md", "x \n"), file("a.md", "x\nx \n")];
    let shown: Vec<String> = check(&files, &[]).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "a.md:2: has blanks at its end",
            "b.md:1: has blanks at its end"
        ]
    );
}
