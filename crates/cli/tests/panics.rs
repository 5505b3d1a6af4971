//! A bug in one of the program's threads ends the run with its message; it neither hangs nor loses what was done.

mod harness;

use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use harness::{TestDir, train_args};

/// The message of every deliberate panic.
const MESSAGE: &str = "a fault that a test asked for";

/// Nothing is kept in memory, so that every epoch decodes its pictures.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(
        ["3", "2"],
        "4",
        &[
            &["--cache-images", "0", "--checkpoint-every", "0.00001"],
            more,
        ],
    )
}

/// A run that ends with code 1 by itself; its standard error.
fn fails(dir: &TestDir, fault: &str, more: &[&str]) -> String {
    let mut child = dir
        .command(&train(more))
        .env("WAGGLE_FAULT", fault)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{fault}: it hangs");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{fault}: {said}");
    said
}

/// What is said as the error, after what Rust says about a panic.
#[track_caller]
fn error(said: &str) -> &str {
    let at = said.find("error: ");
    let error = &said[at.unwrap_or_else(|| panic!("no error: {said}"))..];
    assert!(error.contains(MESSAGE), "{said}");
    error
}

#[test]
fn a_panic_in_a_loader_ends_the_run_and_names_the_picture() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // 36 pictures are read once, then drawn for `train_batch.png`: a few at most. 80 lies in the first stage.
    for workers in ["1", "3"] {
        let out = format!("run-{workers}");
        let said = fails(
            &dir,
            "picture-panic:80",
            &["--out", &out, "--workers", workers],
        );
        assert!(error(&said).contains(".png`"), "{said}");
        dir.succeeds(&["train", "--resume", &out]);
        dir.assert_same_result(&out, "whole");
    }
}

#[test]
fn a_panic_while_all_pictures_are_read_is_one_of_the_bad_ones() {
    let dir = TestDir::with_stripes();
    let said = fails(&dir, "picture-panic:35", &["--out", "run"]);
    assert!(error(&said).contains(".png`"), "{said}");
    assert!(!dir.path("run").exists());
}

#[test]
fn a_panic_in_the_thread_that_writes_checkpoints_ends_the_run() {
    let dir = TestDir::with_stripes();
    let told = dir.succeeds(&train(&["--out", "whole", "--json"]));
    let told = harness::json_lines(&told);
    let first = told.iter().find_map(|event| event["bytes"].as_u64());
    let first = first.expect("it told of checkpoints");

    let fault = format!("checkpoint-panic:{}", first / 2);
    let said = fails(&dir, &fault, &["--out", "early"]);
    assert!(error(&said).contains("wrote a checkpoint"), "{said}");
    let said = dir.fails(1, &["train", "--resume", "early"]);
    assert!(said.contains("holds no checkpoint"), "{said}");

    let fault = format!("checkpoint-panic:{}", first + first / 2);
    let said = fails(&dir, &fault, &["--out", "late"]);
    assert!(error(&said).contains("wrote a checkpoint"), "{said}");
    dir.succeeds(&["train", "--resume", "late"]);
    dir.assert_same_result("late", "whole");
}
