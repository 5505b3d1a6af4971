//! Names of files, classes and tensors cannot control the terminal or forge a line of output.

// Names with control characters need a Unix file system, and one test opens a pseudoterminal.
#![cfg(unix)]

mod harness;

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Output, Stdio};

use harness::{TestDir, json_lines, stdout_and_stderr};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Clears the screen, forges an error, rings the bell, reverses text and starts a C1 sequence.
const EVIL: &str = "\u{1b}[2J\r\nerror: forged\u{7}\u{202e}\u{9b}31m\u{7f}";
/// [`EVIL`] as a message shows it.
const ESCAPED: &str = r"\x1b[2J\r\nerror: forged\x07\u{202e}\u{9b}31m\x7f";

/// A data set, weights and models whose names contain [`EVIL`].
struct Evil {
    dir: TestDir,
    data: String,
    run: String,
}

impl Evil {
    fn new() -> Self {
        let dir = TestDir::new();
        let data = format!("data{EVIL}");
        let classes = [format!("a{EVIL}"), format!("b{EVIL}")];
        let classes = classes.each_ref().map(String::as_str);
        dir.stripes(&data, &classes, 4, 2);
        dir.write(&format!("{data}/train/{}/x{EVIL}.png", classes[0]), b"text");
        dir.write(&format!("{data}/val/{}/y{EVIL}.png", classes[1]), b"text");
        dir.write(&format!("{data}/notes{EVIL}.txt"), b"text");
        dir.image(
            &format!("{data}/train/{}/again{EVIL}.png", classes[1]),
            0,
            0,
        );
        dir.tiny_weights("tiny.safetensors", 10);
        dir.tiny_weights("two.safetensors", 2);
        dir.model_with_classes("two.safetensors", "classes.safetensors", &classes);
        let run = format!("run{EVIL}");
        Self { dir, data, run }
    }

    /// Runs `waggle` and checks standard error, and standard output unless it is for programs.
    /// Returns both.
    #[track_caller]
    fn check(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.dir.waggle(arguments);
        let (stdout, stderr) = stdout_and_stderr(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?} {stdout} {stderr}"
        );
        let is_data = ["--json", "--quiet"];
        let is_data = is_data.iter().any(|flag| arguments.contains(flag));
        assert_clean(arguments, &stderr);
        if !is_data {
            assert_clean(arguments, &stdout);
        }
        if arguments.contains(&"--json") {
            json_lines(&stdout);
        }
        (stdout, stderr)
    }
}

#[track_caller]
fn assert_clean(arguments: &[&str], text: &str) {
    let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(is_raw), "{arguments:?}: {text:?}");
    for line in text.lines() {
        assert!(
            !line.trim_start().starts_with("error: forged"),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn names_with_control_characters_are_escaped_in_the_output_of_every_command() {
    let evil = Evil::new();
    let (data, run) = (evil.data.as_str(), evil.run.as_str());
    let train = [
        "train",
        "--data",
        data,
        "--weights",
        "tiny.safetensors",
        "--out",
        run,
    ];
    let short = [
        "--transfer-epochs",
        "2",
        "--finetune-epochs",
        "1",
        "--batch-size",
        "4",
    ];
    let (_, stderr) = evil.check(1, &train);
    let bad = format!("\n  data{ESCAPED}/train/a{ESCAPED}/x{ESCAPED}.png: ");
    assert!(stderr.contains(&bad), "{stderr}");

    let train = [&train[..], &short, &["--on-bad", "skip"]].concat();
    let (stdout, stderr) = evil.check(0, &[&train[..], &["--verbose"]].concat());
    for part in [
        &format!("2 classes: a{ESCAPED}, b{ESCAPED}\n"),
        "Next     waggle predict $'run\\033[2J\\015\\012error: forged\\007",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let skipped = format!("warning: skipped train/a{ESCAPED}/x{ESCAPED}.png: ");
    assert!(stderr.contains(&skipped), "{stderr}");
    let (_, stderr) = evil.check(0, &[&train[..], &["--quiet"]].concat());
    assert!(
        stderr.contains(&skipped),
        "--quiet prints warnings: {stderr}"
    );
    evil.check(0, &[&train[..], &["--json"]].concat());
    evil.check(0, &["train", "--resume", run]);

    let (stdout, _) = evil.check(0, &["evaluate", run]);
    let row = format!("\na{}…", &ESCAPED[..22]);
    assert!(stdout.contains(&row), "{row} {stdout}");
    evil.check(0, &["evaluate", run, "--json"]);
    evil.check(1, &["evaluate", "two.safetensors", "--data", data]);
    evil.check(1, &["evaluate", run, "--split", EVIL]);
    let (stdout, _) = evil.check(1, &["predict", run, data]);
    let line = format!("data{ESCAPED}/val/b{ESCAPED}/00.png: ");
    assert!(stdout.contains(&line), "{stdout}");
    evil.check(1, &["predict", run, data, "--json"]);
    evil.check(1, &["predict", "classes.safetensors", EVIL]);
    evil.check(1, &["predict", EVIL, data]);
    let maps = format!("maps{EVIL}");
    let (stdout, _) = evil.check(1, &["explain", run, data, "--out", &maps]);
    let line = format!("data{ESCAPED}/val/b{ESCAPED}/00.png: ");
    assert!(stdout.contains(&line), "{stdout}");
    evil.check(1, &["explain", run, data, "--json"]);
    evil.check(1, &["explain", run, data, "--class", EVIL]);
    evil.check(1, &["explain", run, data, "--layer", EVIL]);
    evil.check(1, &["explain", run, data, "--out", data]);
    let (stdout, _) = evil.check(1, &["check", data]);
    assert!(stdout.contains(&format!("  a{ESCAPED}")), "{stdout}");
    evil.check(1, &["check", data, "--json"]);
    let labels = ["labels", run, "--seed", "1"];
    let (stdout, stderr) = evil.check(0, &labels);
    assert!(stdout.contains(&format!("/data{ESCAPED}, ")), "{stdout}");
    assert!(stderr.contains(&skipped), "{stderr}");
    evil.check(0, &[&labels[..], &["--json"]].concat());
    evil.check(1, &[&labels[..], &["--on-bad", "fail"]].concat());
    evil.check(1, &["labels", "classes.safetensors", "--data", EVIL]);
    let png = format!("{EVIL}.png");
    let show = ["show", "--data", data, "--on-bad", "skip", "--out", &png];
    evil.check(0, &show);
    evil.check(1, &show);
    evil.check(0, &["report", run]);
    evil.check(1, &["report", EVIL]);
    let (stdout, _) = evil.check(0, &["compare", run, run, "-o", &png.replace("png", "html")]);
    assert!(stdout.contains(r"run\x1b[2J"), "{stdout}");
    evil.check(1, &["compare", run, EVIL]);
    evil.check(0, &["summary", "--model", run]);
    evil.check(1, &["summary", "--model", EVIL]);
    let export = ["export", run, "--to", "onnx", "--out", EVIL];
    evil.check(0, &export);
    evil.check(1, &export);
    evil.check(0, &["man", "--out", &format!("man{EVIL}")]);
}

#[test]
fn errors_about_weights_and_runs_escape_what_the_files_contain() {
    let evil = Evil::new();
    let train = |weights: &str| {
        let line = [
            "train",
            "--data",
            &evil.data,
            "--on-bad",
            "skip",
            "--weights",
        ];
        evil.check(1, &[&line[..], &[weights]].concat()).1
    };
    let bytes = evil.dir.read("tiny.safetensors");
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut views = tensors.tensors();
    let zeros = [0; 4];
    views.push((
        EVIL.to_string(),
        TensorView::new(Dtype::F32, vec![1], &zeros).unwrap(),
    ));
    let metadata = header.metadata().clone().unwrap();
    let file = safetensors::serialize(views, Some(metadata.clone())).unwrap();
    evil.dir.write("tensor.safetensors", &file);
    assert!(train("tensor.safetensors").contains(ESCAPED));

    let mut other = metadata;
    let config = other["config"].replacen("\"tiny\"", &serde_json::to_string(EVIL).unwrap(), 1);
    assert!(config.contains("forged"), "{config}");
    other.insert("config".to_string(), config);
    let file = safetensors::serialize(tensors.tensors(), Some(other)).unwrap();
    evil.dir.write("architecture.safetensors", &file);
    evil.check(1, &["summary", "--model", "architecture.safetensors"]);
    train(&format!("{EVIL}.safetensors"));
    train(&evil.data);

    let run = evil.run.as_str();
    for file in ["run.toml", "config.toml"] {
        let text = format!("a = \"{EVIL}");
        evil.dir.write(&format!("{run}/{file}"), text.as_bytes());
    }
    evil.check(1, &["train", "--resume", run]);
    let model = evil.dir.read("two.safetensors");
    evil.dir.write(&format!("{run}/model.safetensors"), &model);
    let (_, stderr) = evil.check(1, &["evaluate", run]);
    let mut lines = stderr.lines();
    let is_toml = |line: &str| line.starts_with("  TOML parse error at line ");
    assert!(lines.any(is_toml), "{stderr}");
    evil.dir
        .write(&format!("{run}/checkpoint-000001.safetensors"), b"damaged");
    evil.check(1, &["train", "--resume", run]);
    evil.check(1, &["evaluate", run, "--data", &evil.data]);
    evil.check(1, &["export", run, "--to", "timm"]);
}

#[test]
fn usage_errors_escape_the_arguments() {
    let evil = Evil::new();
    let value = format!("--device={EVIL}");
    for arguments in [
        &["train", &value][..],
        &["train", "--lr", EVIL],
        &["train", "--finetune-lr", EVIL],
        &["train", "--weights", &format!("hf:{EVIL}")],
        &["train", &format!("--{EVIL}")],
        &["train", "--arch", EVIL],
        &["summary", "--classes", EVIL],
        &["completions", EVIL],
        &["check", "data", EVIL],
        &[EVIL],
    ] {
        let (_, stderr) = evil.check(2, arguments);
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains(ESCAPED), "{stderr}");
    }
    // Valid except for the characters that are escaped.
    evil.check(2, &["summary", "--classes", "2\n"]);
}

#[test]
fn a_terminal_gets_no_control_characters_from_names() {
    let evil = Evil::new();
    let train = "--weights tiny.safetensors --on-bad skip --transfer-epochs 2 --finetune-epochs 2";
    let mut arguments = vec!["train", "--data", &evil.data, "--out", &evil.run];
    arguments.extend(train.split(' '));
    let text = on_terminal(&evil.dir, &arguments);
    assert!(text.contains("Accuracy"), "{text:?}");
    assert_harmless(&text);
    let text = on_terminal(&evil.dir, &["predict", &evil.run, &evil.data]);
    assert!(
        text.contains(&format!("data{ESCAPED}/val/b{ESCAPED}/00.png: ")),
        "{text:?}"
    );
    assert_harmless(&text);
    // CSV has the exact names.
    let output: Output = evil
        .dir
        .waggle(&["predict", &evil.run, &evil.data, "--csv"]);
    let (stdout, _) = stdout_and_stderr(&output);
    assert!(
        stdout.contains(&format!("data{EVIL}/val/b{EVIL}/00.png")),
        "{stdout:?}"
    );
}

/// Checks `text`, which may contain control sequences of `waggle`, for those of [`EVIL`].
#[track_caller]
fn assert_harmless(text: &str) {
    for raw in [
        "\u{1b}[2J",
        "\u{7}",
        "\u{202e}",
        "\u{9b}",
        "\nerror: forged",
    ] {
        assert!(!text.contains(raw), "{raw:?} in {text:?}");
    }
}

/// Runs `waggle` on a pseudoterminal and returns what the terminal receives.
fn on_terminal(dir: &TestDir, arguments: &[&str]) -> String {
    let (mut controller, mut terminal) = (0, 0);
    let null: *mut libc::c_void = std::ptr::null_mut();
    let size = libc::winsize {
        ws_row: 50,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the first two pointers are to integers, the last is to a `winsize`, and the others,
    // which are optional, are null.
    let opened = unsafe {
        libc::openpty(
            &mut controller,
            &mut terminal,
            null.cast(),
            null.cast(),
            &size,
        )
    };
    assert_eq!(opened, 0, "a pseudoterminal can be opened");
    // SAFETY: `openpty` succeeded, so both are open file descriptors that nothing else owns.
    let (mut controller, terminal) =
        unsafe { (File::from_raw_fd(controller), File::from_raw_fd(terminal)) };
    let mut command = dir.command(arguments);
    command.stdin(Stdio::null());
    command
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal);
    let mut child = command.spawn().unwrap();
    // The command owns copies of the terminal. Once all are closed, reading fails with EIO.
    drop(command);
    let mut bytes = Vec::new();
    let _ = controller.read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap()
}
