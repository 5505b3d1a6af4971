//! Each rule of `tidy` applied to files that break it, and to similar files that do not.

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

/// Expects one finding, on `line`, whose message contains `part`.
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
fn rust_files_begin_with_documentation() {
    broken("crates/a/src/b.rs", "use std::fs;\n", 1, "//!");
    broken("crates/a/src/b.rs", "// Not documentation.\n", 1, "//!");
    fine("crates/a/src/b.rs", "//! B.\nuse std::fs;\n");
    fine("crates/a/src/b.rs", "#![allow(dead_code)]\n\n//! B.\n");
    fine("notes.md", "No Rust.\n");
}

#[test]
fn long_files_need_an_exception() {
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
        findings[0].message.contains("remove it from LONG_FILES"),
        "{findings:?}"
    );
}

#[test]
fn unfinished_code_is_found() {
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
fn ignored_tests_need_a_reason() {
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
fn absolute_paths_are_found() {
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
fn trailing_white_space_and_missing_newlines_are_found() {
    broken("a.md", "blank \n", 1, "white space");
    broken("a.md", "windows\r\n", 1, "white space");
    broken("a.md", "no end", 0, "newline");
    fine("a.md", "");
    // Data files are exempt.
    fine("crates/a/tests/golden/a.json", "{ } ");
}

#[test]
fn compiler_flags_for_one_processor_are_found() {
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
fn large_files_are_found() {
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
            .contains("do not belong in the repository")
    );
}

#[test]
fn the_readme_must_contain_both_commands() {
    broken("README.md", "cargo test --workspace\n", 0, "-- train");
    fine(
        "README.md",
        "cargo test --workspace\ncargo run --release -p cli -- train\n",
    );
}

#[test]
fn dependencies_need_a_comment() {
    let start = "[workspace.dependencies]\n";
    broken(
        "Cargo.toml",
        &format!("{start}a = \"1\"\n"),
        2,
        "needs a comment",
    );
    fine(
        "Cargo.toml",
        &format!("{start}# For x.\na = \"1\"\nb = \"1\"\n"),
    );
    broken(
        "Cargo.toml",
        &format!("{start}# For x.\na = \"1\"\n\nb = \"1\"\n"),
        5,
        "needs a comment",
    );
    fine("Cargo.toml", "[workspace.package]\nversion = \"1\"\n");
}

#[test]
fn members_inherit_versions_and_lints() {
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
        "in one line",
    );
    broken(
        "crates/a/Cargo.toml",
        "[package]\nname = \"a\"\n",
        0,
        "lints",
    );
}

#[test]
fn findings_are_sorted_by_path_and_line() {
    let files = [file("b.md", "x \n"), file("a.md", "x\nx \n")];
    let shown: Vec<String> = check(&files, &[]).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "a.md:2: has trailing white space",
            "b.md:1: has trailing white space"
        ]
    );
}

#[test]
fn libraries_neither_print_nor_name_flags() {
    let code = |line: &str| format!("//! B.\nfn f() {{\n    {line}\n}}\n");
    let path = "crates/vgg/src/b.rs";
    broken(path, &code("println!(\"x\");"), 3, "must not print");
    broken(path, &code("let x = \"pass --arch\";"), 3, "flag");
    broken(path, &code("let x = \"`--arch`\";"), 3, "flag");
    fine(path, &code("// println!, --arch"));
    fine(path, &code("let x = \"a -- b\"; my_println!();"));
    fine(
        path,
        &format!(
            "{}#[cfg(test)]\nmod tests {{ println!(\"--x\"); }}\n",
            code("")
        )
        .replace("    \n", ""),
    );
    fine("crates/cli/src/b.rs", &code("println!(\"--arch\");"));
}
