//! A standard output that is closed or full is an error for every command, never a panic. Output files replace
//! only regular files.

#![cfg(unix)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use harness::{TestDir, is_checkpoint, send_signal, stdout_and_stderr};

/// A directory with a data set, weights, and the model `runs/train`, which is its baseline.
fn trained() -> TestDir {
    let dir = TestDir::with_stripes();
    let arguments =
        "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    dir.succeeds(&arguments.split(' ').collect::<Vec<_>>());
    dir
}

/// Commands that print a result.
const COMMANDS: [&str; 15] = [
    "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1 --out runs/other",
    "train --resume runs/train",
    "evaluate runs/train",
    "predict runs/train data/val",
    "explain runs/train data/val/vertical/00.png",
    "export runs/train --to onnx --out model.onnx --overwrite",
    "check data",
    "labels runs/train",
    "report runs/train",
    "compare runs/train runs/train",
    "show --data data --input-size 32 --overwrite",
    "summary",
    "completions bash",
    "man --out man-pages",
    "predict --help",
];

/// Runs `waggle` in `dir` from a shell, with the redirection `redirect`.
fn shell(dir: &TestDir, arguments: &str, redirect: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_waggle");
    let output = Command::new("sh")
        .args(["-c", &format!("exec '{program}' {arguments} {redirect}")])
        .current_dir(dir.path("."))
        .output()
        .unwrap();
    let (_, err) = stdout_and_stderr(&output);
    assert!(!err.contains("panicked"), "{arguments} {redirect}: {err}");
    output
}

#[test]
fn a_closed_standard_output_is_an_error_for_every_command() {
    let dir = trained();
    for command in COMMANDS {
        let output = shell(&dir, command, ">&-");
        let (_, err) = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {err}");
        assert!(
            err.contains("error: standard output is closed"),
            "{command}: {err}"
        );
    }
    assert!(!dir.path("runs/other").exists(), "a run was started");
    // A stream that discards its output is not closed.
    for command in COMMANDS {
        let output = shell(&dir, command, "> /dev/null");
        let (_, err) = stdout_and_stderr(&output);
        assert!(!err.contains("standard output"), "{command}: {err}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_standard_output_is_an_error_for_every_command() {
    let dir = trained();
    for command in COMMANDS {
        let output = shell(&dir, command, "> /dev/full");
        let (_, err) = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {err}");
        assert!(
            err.contains("error: cannot write to standard output"),
            "{command}: {err}"
        );
    }
}

#[test]
#[cfg(unix)]
fn overwrite_replaces_files_but_no_pipes_links_and_folders() {
    let dir = trained();
    for command in [
        "report runs/train --out OUT --overwrite",
        "compare runs/train runs/train-2 --out OUT --overwrite",
        "show --data data --out OUT --overwrite",
        "evaluate runs/train --predictions OUT --overwrite",
        "export runs/train --to onnx --out OUT --overwrite",
        "export runs/train --to safetensors --out OUT --overwrite",
        "export runs/train --to timm --out FOLDER --overwrite",
    ] {
        let name = match command.contains("FOLDER") {
            true => "folder/config.json",
            false => "output",
        };
        let path = dir.path(name);
        let command = command.replace("OUT", name).replace("FOLDER", "folder");
        let arguments: Vec<&str> = command.split(' ').collect();
        let refuses = |kind: &str| {
            let error = dir.fails(1, &arguments);
            let message = format!("error: the output `{name}` is {kind}, not a regular file\n");
            assert!(error.starts_with(&message), "{command}: {error}");
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        dir.pipe(name);
        refuses("a device, pipe or socket");
        fs::remove_file(&path).unwrap();
        dir.write("target", b"mine");
        std::os::unix::fs::symlink(dir.path("target"), &path).unwrap();
        refuses("a symbolic link");
        assert_eq!(dir.read("target"), b"mine");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refuses("a folder");
        fs::remove_dir(&path).unwrap();
    }
    dir.write("output", b"old");
    dir.succeeds(&["show", "--data", "data", "--out", "output", "--overwrite"]);
    assert!(dir.read("output").starts_with(b"\x89PNG"));
}

#[test]
fn a_reader_that_closes_the_pipe_is_an_error() {
    let dir = trained();
    for number in 0..40 {
        dir.image(&format!("new/{number:02}.png"), number % 2, number);
    }
    let mut child = dir.start(&["predict", "runs/train", "new", "--batch-size", "1"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let (_, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.starts_with("error: cannot write to standard output\n"),
        "{err}"
    );
}

#[test]
fn prediction_fails_when_the_reader_is_gone_although_standard_input_stays_open() {
    let dir = trained();
    let mut child = dir
        .command(&["predict", "runs/train", "-", "--batch-size", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let path = "data/val/vertical/00.png\n";
    std::io::Write::write_all(&mut input, path.as_bytes()).unwrap();
    // The prediction is printed while standard input is still open.
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with(path.trim()), "{line}");
    drop(lines);
    std::io::Write::write_all(&mut input, path.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    drop(input);
}

#[test]
fn training_completes_when_the_reader_is_gone_and_fails_at_the_end() {
    for more in [&[][..], &["--json"], &["--quiet"]] {
        let dir = TestDir::with_stripes();
        let arguments = harness::train_args(["2", "1"], "8", &[more]);
        let mut child = dir.start(&arguments);
        drop(child.stdout.take());
        let mut err = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{err}");
        assert!(
            err.contains("standard output was closed before the end"),
            "{err}"
        );
        assert!(dir.path("runs/train/confusion_matrix.png").exists());
    }
}

#[test]
fn a_run_that_is_interrupted_without_a_reader_can_be_resumed() {
    let dir = TestDir::with_stripes();
    let arguments = harness::train_args(["40", "1"], "4", &[]);
    let (child, events, lines) = harness::start_until(&dir, &arguments, &is_checkpoint);
    assert!(events.last().is_some_and(is_checkpoint));
    drop(lines);
    send_signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{:?}", output.stderr);
    dir.succeeds(&["train", "--resume", "runs/train"]);
}
