//! Rules of `tidy` applied to code that breaks them, and to similar code that does not.

use serde_json::json;
use xtask::tidy::{SourceFile, check, check_dependencies};

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let file = |&(path, text): &(&str, &str)| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    check(&files.iter().map(file).collect::<Vec<_>>())
}

/// Expects one finding, which contains `part`.
#[track_caller]
fn broken(path: &str, text: &str, part: &str) {
    let findings = findings(&[(path, text)]);
    assert!(
        findings.len() == 1 && findings[0].contains(part),
        "{text}: {findings:?}"
    );
}

#[track_caller]
fn fine(path: &str, text: &str) {
    assert_eq!(findings(&[(path, text)]), [""; 0], "{text}");
}

const LIBRARY: &str = "crates/vgg/src/b.rs";
const TESTS: &str = "#[cfg(test)]\nmod tests {\n    println!(\"--x\");\n}\n";

#[test]
fn libraries_are_independent() {
    let findings = |library: &str, name: &str, kind: Option<&str>, optional: bool| {
        let dependency = json!({"name": name, "path": "/x", "kind": kind, "optional": optional});
        let outside = json!({"name": "rand", "path": null, "kind": null, "optional": false});
        let package = json!({"name": library, "dependencies": [dependency, outside]});
        check_dependencies(&json!({"packages": [package]}))
    };
    let expected = ["dataset must not depend on vgg"];
    assert_eq!(findings("dataset", "vgg", None, true), expected);
    let expected = ["vgg must depend on trainer optionally"];
    assert_eq!(findings("vgg", "trainer", None, false), expected);
    for library in ["kernels", "fetch", "sample", "trainer"] {
        assert_eq!(findings(library, "dataset", Some("build"), false).len(), 1);
        assert_eq!(findings(library, "dataset", Some("dev"), false).len(), 0);
    }
    for (library, name) in [("vgg", "kernels"), ("vgg", "trainer"), ("cli", "vgg")] {
        assert_eq!(findings(library, name, None, true).len(), 0);
    }
    let text = "//! B.\nfn f() {\n    trainer::fit();\n}\n";
    broken(LIBRARY, text, "b.rs:3: only src/trainer.rs");
    fine("crates/vgg/src/trainer.rs", text);
    fine(LIBRARY, &text.replace("trainer", "crate::trainer"));
}

#[test]
fn faults_are_injected_in_one_file() {
    let text = "//! B.\nfn f() {\n    std::env::var(\"WAGGLE_FAULT\");\n}\n";
    broken(
        "crates/cli/src/b.rs",
        text,
        "b.rs:3: only src/fault_injection.rs",
    );
    fine("crates/cli/src/fault_injection.rs", text);
    fine("crates/cli/tests/b.rs", text);
}

#[test]
fn libraries_neither_print_nor_name_flags() {
    let code = |line: &str| format!("//! B.\nfn f() {{\n    {line}\n}}\n");
    broken(
        LIBRARY,
        &code("println!(\"x\");"),
        "b.rs:3: a library must not print",
    );
    broken(LIBRARY, &code("let x = \"pass --arch\";"), "flag");
    fine(LIBRARY, &code("// println!, --arch"));
    fine(LIBRARY, &(code("let x = \"a -- b\";") + TESTS));
    fine("crates/cli/src/b.rs", &code("println!(\"--arch\");"));
}

#[test]
fn rust_files_are_documented_and_short() {
    broken(LIBRARY, "use std::fs;\n", "b.rs: must begin with `//!`");
    fine(LIBRARY, "#![allow(dead_code)]\n\n//! B.\n");
    let lines = |count: usize| format!("//! Long.\n{}", "fn f() {}\n".repeat(count - 1));
    fine(LIBRARY, &(lines(400) + TESTS));
    broken(LIBRARY, &lines(401), "401 lines");
    fine("crates/a/tests/b.rs", &lines(1_000));
}

#[test]
fn words_are_american_and_plain() {
    for (text, part) in [
        ("one\ntwo anew", "a.md:2: \"anew\": write again"),
        ("PICTURES", "image"),
        ("fn draw_picture(x: u8)", "image"),
        ("PictureReader", "image"),
        ("RGBPicture2", "image"),
        (r"\nanew", "again"),
        ("FreshHead", "newly initialized"),
        ("whoever", "the caller"),
        ("beside", "next to"),
        ("It goes on.", "continues"),
        ("He is told of it.", "reported to"),
        ("for want\n/// of memory", "without"),
        ("Colourful", "-or"),
        ("the dog's grey fur", "gray"),
        ("unlabelled", "one l"),
        ("centred", "American"),
        ("paralysed", "-yze"),
    ] {
        broken("a.md", text, part);
    }
    for word in "normalise initialised recognising optimisations serialisable organisation summarise vectorised \
                 randomised tokenise quantised customise minimise emphasise standardise synchronised"
        .split_whitespace()
    {
        broken("a.md", word, "-ize");
    }
    fine(
        "a.md",
        "refresh besides noise raised otherwise precise exercise promised rise advertising compromise devise \
         revised concise disguised supervised comprises expertise premises surprising enterprise franchise arise \
         praise disable visable element-wise denoised improvise analyses paradise. It goes, on Sundays.\n",
    );
    fine("a.json", "{\"a\": \"picture\"}\n");
}

#[test]
fn import_cycles_are_found() {
    let cycles = |a: &str, b: &str, root: &str| {
        let [a, b, root] = [a, b, root].map(|text| format!("//! X.\n{text}\n"));
        findings(&[
            ("crates/x/src/a.rs", &a),
            ("crates/x/src/b.rs", &b),
            ("crates/x/src/lib.rs", &root),
        ])
    };
    let import_b = "use crate::{\n    c,\n    b::{self, B},\n};";
    assert_eq!(
        cycles(import_b, "fn f() { super::a::g() }", ""),
        [
            "crates/x/src/a.rs: crate::b::B is part of an import cycle",
            "crates/x/src/a.rs: crate::b::self is part of an import cycle",
            "crates/x/src/b.rs: super::a::g is part of an import cycle",
        ]
    );
    let import_a = "use crate::a::A;";
    assert_eq!(cycles("use crate::B;", import_a, "pub use b::B;").len(), 2);
    let not_code = "// crate::a\nconst B: &str = \"crate::a\";";
    assert_eq!(cycles(import_b, not_code, "").len(), 0);
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}";
    assert_eq!(cycles(import_b, tests, "").len(), 0);
    // A module and its children may import each other, but not two children.
    let nested = |c: &str| {
        findings(&[
            ("crates/x/src/a/mod.rs", "//! A.\nuse self::b::B;\n"),
            ("crates/x/src/a/b.rs", "//! B.\nuse super::{A, c::C};\n"),
            ("crates/x/src/a/c.rs", c),
        ])
    };
    assert_eq!(nested("//! C.\n").len(), 0);
    assert_eq!(nested("//! C.\nuse super::b::B;\n").len(), 2);
}
