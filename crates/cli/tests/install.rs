//! Tests of `waggle completions` and `waggle man`.

mod harness;

use harness::TestDir;

#[test]
fn completions_name_subcommands_and_flags() {
    let dir = TestDir::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = dir.succeeds(&["completions", shell]);
        for word in ["predict", "summary", "finetune-lr"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn man_writes_pages_for_waggle_and_its_subcommands() {
    let dir = TestDir::new();
    dir.succeeds(&["man", "-o", "share/man/man1"]);
    let page = |name: &str| String::from_utf8(dir.read(&format!("share/man/man1/{name}"))).unwrap();
    assert!(page("waggle.1").contains("waggle\\-train(1)"));
    assert!(page("waggle.1").contains(".SH NOTES\nExamples:"));
    assert!(!page("waggle-train.1").contains("EXTRA"));
    assert!(page("waggle-train.1").contains("transfer\\-epochs"));
}
