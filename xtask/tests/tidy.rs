//! Rules of `tidy` applied to files that break them, and to similar files that do not.

use xtask::tidy::{SourceFile, check};

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let file = |&(path, text): &(&str, &str)| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let files: Vec<SourceFile> = files.iter().map(file).collect();
    check(&files).iter().map(ToString::to_string).collect()
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
fn rust_files_are_documented_finished_and_short() {
    broken(LIBRARY, "use std::fs;\n", "b.rs:1: must begin with `//!`");
    fine(LIBRARY, "#![allow(dead_code)]\n\n//! B.\n");
    let lines = |count: usize| format!("//! Long.\n{}", "fn f() {}\n".repeat(count - 1));
    fine(LIBRARY, &(lines(400) + TESTS));
    broken(LIBRARY, &lines(401), "401 lines");
    fine("crates/a/tests/b.rs", &lines(1_000));
    for name in ["todo", "unimplemented", "dbg"] {
        broken(
            LIBRARY,
            &format!("//! B.\nfn f() {{ {name}!() }}\n"),
            "b.rs:2: is unfinished",
        );
    }
    fine(LIBRARY, "//! B.\nfn todo() {}\n");
    broken(
        LIBRARY,
        &["//! B.\n#[", "ignore]\n"].concat(),
        "needs a reason",
    );
    fine(LIBRARY, "//! B.\n#[ignore = \"takes an hour\"]\n");
}

#[test]
fn text_is_portable() {
    for folder in ["work", "root"] {
        broken(
            "a.md",
            &format!("See /{folder}/data.\n"),
            "a.md:1: contains an absolute path",
        );
    }
    fine("a.md", "a/work/b and ./root/ and https://a.org/work/x\n");
    broken("a.md", "blank \n", "white space");
    broken("a.md", "windows\r\n", "white space");
    broken("a.md", "no end", "newline");
    fine("crates/a/tests/golden/a.json", "{ } ");
    let flag = ["RUSTFLAGS=-Ctarget", "cpu=native\n"].join("-");
    broken(".ci/run", &flag, "run time");
    fine("a.md", &flag);
    broken("README.md", "cargo test --workspace\n", "-- train");
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
    broken(LIBRARY, &code("trainer::fit();"), "only src/trainer.rs");
    fine("crates/vgg/src/trainer.rs", &code("trainer::fit();"));
    fine(LIBRARY, &code("// println!, --arch"));
    fine(
        LIBRARY,
        &(code("let x = \"a -- b\"; crate::trainer::f();") + TESTS),
    );
    fine("crates/cli/src/b.rs", &code("println!(\"--arch\");"));
}

#[test]
fn manifests_inherit_and_libraries_are_independent() {
    let root = "[workspace.dependencies]\n";
    broken(
        "Cargo.toml",
        &format!("{root}a = \"1\"\n"),
        "Cargo.toml:2: a dependency needs a comment",
    );
    fine(
        "Cargo.toml",
        &format!("{root}# For x.\na = \"1\"\nb = \"1\"\n"),
    );
    broken(
        "Cargo.toml",
        &format!("{root}# For x.\na = \"1\"\n\nb = \"1\"\n"),
        "Cargo.toml:5",
    );
    let vgg = |text: &str| format!("[lints]\nworkspace = true\n[dependencies]\n{text}\n");
    let path = "crates/vgg/Cargo.toml";
    fine(path, &vgg("c = { workspace = true, features = [\"x\"] }"));
    broken(path, &vgg("b = \"1\""), "workspace.dependencies");
    broken(path, &vgg("[dependencies.b]"), "in one line");
    broken(path, "[package]\nname = \"vgg\"\n", "lints");
    broken(
        path,
        &vgg("dataset.workspace = true"),
        "Cargo.toml:4: a library crate must not depend",
    );
    broken(path, &vgg("trainer.workspace = true"), "optional");
    fine(
        path,
        &vgg("trainer = { workspace = true, optional = true }\nkernels.workspace = true"),
    );
    fine(path, &vgg("[dev-dependencies]\ndataset.workspace = true"));
    broken(
        "crates/kernels/Cargo.toml",
        &vgg("vgg.workspace = true"),
        "must not depend",
    );
}

#[test]
fn words_are_american_and_plain() {
    for (text, part) in [
        ("one\ntwo anew", "a.md:2: `anew`: write again"),
        ("PICTURES", "image"),
        ("fn draw_picture(x: u8)", "image"),
        ("PictureReader", "image"),
        ("RGBPicture2", "image"),
        (r"\nanew", "again"),
        ("It goes on.", "continues"),
        ("for want\n/// of memory", "`for want of`"),
        ("Colourful", "-or"),
        ("the dog's grey fur", "gray"),
        ("unlabelled", "one l"),
        ("centred", "American"),
        ("paralysed", "-yze"),
    ] {
        broken("a.md", &format!("{text}\n"), part);
    }
    for word in "normalise initialised recognising optimisations serialisable organisation summarise vectorised \
                 randomised tokenise quantised customise minimise emphasise standardise synchronised"
        .split_whitespace()
    {
        broken("a.md", &format!("{word}\n"), "-ize");
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
    let found = cycles(
        "use crate::{b::{self, B}, c};",
        "fn f() { super::a::g() }",
        "",
    );
    let expected = "crates/x: import cycle of a, b:\n    crates/x/src/a.rs:2: crate::b::self\n    \
                    crates/x/src/b.rs:2: super::a::g";
    assert_eq!(found, [expected]);
    assert_eq!(
        cycles("use crate::B;", "use crate::a::A;", "pub use b::B;").len(),
        1
    );
    assert_eq!(
        cycles(
            "use crate::b::B;",
            "// crate::a\nconst B: &str = \"crate::a\";",
            ""
        )
        .len(),
        0
    );
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}";
    assert_eq!(cycles("use crate::b::B;", tests, "").len(), 0);
    // A module and its children may import each other, but not two children.
    let nested = |c: &str| {
        let (a, b) = (
            "//! A.\nuse self::b::B;\n",
            "//! B.\nuse super::{A, c::C};\n",
        );
        findings(&[
            ("crates/x/src/a/mod.rs", a),
            ("crates/x/src/a/b.rs", b),
            ("crates/x/src/a/c.rs", c),
        ])
    };
    assert_eq!(nested("//! C.\n").len(), 0);
    assert_eq!(nested("//! C.\nuse super::b::B;\n").len(), 1);
}
