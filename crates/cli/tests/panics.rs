//! A panic in a loader thread, in the check before training or in the checkpoint writer ends the run
//! with an error and without a hang. If the run has an intact checkpoint, it can be resumed.

mod harness;

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use harness::{TestDir, train_args};

/// Message of every injected panic, as in `fault_injection.rs`.
const MESSAGE: &str = "injected fault";

/// Arguments for a run without an image cache, so that every epoch decodes its images, and with a
/// checkpoint after each training batch unless one is still being written.
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

/// Runs `waggle train` with the injected fault `fault`, expects exit code 1 within two minutes, and
/// returns standard error, which goes to a file: the backtraces of several panics fill a pipe.
fn fails(dir: &TestDir, fault: &str, more: &[&str]) -> String {
    let path = dir.path("stderr.txt");
    let mut child = dir
        .command(&train(more))
        .env("WAGGLE_FAULT", fault)
        .stdout(Stdio::null())
        .stderr(File::create(&path).unwrap())
        .spawn()
        .expect("the program starts");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{fault}: the program did not exit within 120 s");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let stderr = fs::read_to_string(&path).unwrap();
    assert_eq!(status.code(), Some(1), "{fault}: {stderr}");
    stderr
}

/// The part of `stderr` from `error: ` on, which follows Rust's own report of the panic. Expects it to
/// contain the message of the panic.
#[track_caller]
fn error(stderr: &str) -> &str {
    let start = stderr.find("error: ");
    let error = &stderr[start.unwrap_or_else(|| panic!("no error: {stderr}"))..];
    assert!(error.contains(MESSAGE), "{stderr}");
    error
}

#[test]
fn panic_in_a_loader_ends_the_run_and_names_the_image() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // The check before training decodes 36 images, drawing `train_batch.png` at most 24, and the
    // first stage at least 60. The fault occurs after 80 images, so it is in the first stage.
    for workers in ["1", "3"] {
        let out = format!("run-{workers}");
        let stderr = fails(
            &dir,
            "image-panic:80",
            &["--out", &out, "--workers", workers],
        );
        assert!(error(&stderr).contains(".png: "), "{stderr}");
        dir.succeeds(&["train", "--resume", &out]);
        dir.assert_same_result(&out, "whole");
    }
}

#[test]
fn panic_in_the_check_before_training_is_reported_as_a_bad_image() {
    let dir = TestDir::with_stripes();
    let stderr = fails(&dir, "image-panic:35", &["--out", "run"]);
    assert!(error(&stderr).contains(".png: "), "{stderr}");
    assert!(!dir.path("run").exists());
}

#[test]
fn an_image_for_which_a_decoder_panics_is_reported_only_as_damaged() {
    let dir = TestDir::with_stripes();
    let image =
        include_bytes!("../../dataset/tests/formats/cases/animation_frame_of_another_size.webp");
    dir.write("data/train/vertical/x.webp", image);
    let fails = |backtrace: &str| {
        let mut command = dir.command(&train(&[]));
        let output = command.env("RUST_BACKTRACE", backtrace).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        harness::stdout_and_stderr(&output).1
    };
    assert_eq!(
        fails("0"),
        "error: cannot decode 1 of 37 images\n  \
           data/train/vertical/x.webp: a damaged WebP image\n\
         help: replace or remove the file, or pass `--on-bad skip` to skip it\n"
    );
    // A backtrace helps to report the bug.
    assert!(fails("1").contains("panicked at "));
}

#[test]
fn panic_in_the_checkpoint_writer_ends_the_run() {
    let dir = TestDir::with_stripes();
    let out = dir.succeeds(&train(&["--out", "whole", "--json"]));
    let events = harness::json_lines(&out);
    let first = events.iter().find_map(|event| event["bytes"].as_u64());
    let first = first.expect("the run emits checkpoint events");

    let fault = format!("checkpoint-panic:{}", first / 2);
    let stderr = fails(&dir, &fault, &["--out", "early"]);
    assert!(
        error(&stderr).contains("panicked while writing a checkpoint"),
        "{stderr}"
    );
    let stderr = dir.fails(1, &["train", "--resume", "early"]);
    assert!(
        stderr.contains("early has no intact checkpoint"),
        "{stderr}"
    );

    let fault = format!("checkpoint-panic:{}", first + first / 2);
    let stderr = fails(&dir, &fault, &["--out", "late"]);
    assert!(
        error(&stderr).contains("panicked while writing a checkpoint"),
        "{stderr}"
    );
    dir.succeeds(&["train", "--resume", "late"]);
    dir.assert_same_result("late", "whole");
}
