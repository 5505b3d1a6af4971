//! An interrupted run resumes to a byte-identical result. Settings that could change the result are
//! errors, and `--resume` changes nothing in a folder that is not a run.

#![cfg(unix)]

mod harness;

use std::io::{BufRead, BufReader, Read};

use harness::{TestDir, json_lines, send_signal, stdout_and_stderr, train_args};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(
        ["4", "5"],
        "4",
        &[&["--lr", "1e-2", "--checkpoint-every", "0.0001"], more],
    )
}

/// Arguments that cannot be combined with `--resume`, with a value for each.
const SETTINGS: [[&str; 2]; 13] = [
    ["--lr", "0.01"],
    ["--transfer-layers", "classifier"],
    ["--batch-size", "8"],
    ["--seed", "5"],
    ["--momentum", "0.5"],
    ["--threads", "1"],
    ["--device", "cpu"],
    ["--finetune-epochs", "6"],
    ["--finetune-lr", "classifier=1e-3"],
    ["--stage", "transfer"],
    ["--input-size", "48"],
    ["--arch", "vgg16"],
    ["--out", "other"],
];

/// The exit code and the events of a run that received signals.
struct Interrupted {
    code: Option<i32>,
    events: Vec<Value>,
}

/// Starts `waggle` with `--json`, sends `signals` after the first event for which `when` is true, and
/// waits until the program exits.
fn interrupt(
    dir: &TestDir,
    arguments: &[&str],
    signals: &[&str],
    when: &dyn Fn(&Value) -> bool,
) -> Interrupted {
    let mut child = dir.start(&[arguments, &["--json"]].concat());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut events = Vec::new();
    for line in lines.by_ref() {
        events.extend(json_lines(&line.unwrap()));
        if when(events.last().unwrap()) {
            break;
        }
    }
    signals
        .iter()
        .for_each(|signal| send_signal(&child, signal));
    for line in lines {
        events.extend(json_lines(&line.unwrap()));
    }
    let mut messages = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut messages).unwrap();
    // The program prints one line at the signal, unless it exits first.
    let is_expected = messages.is_empty() || messages.starts_with("stopping after this batch");
    assert!(is_expected && messages.lines().count() <= 1, "{messages}");
    let code = child.wait().unwrap().code();
    Interrupted { code, events }
}

/// Whether an event is a batch of the second epoch.
fn is_second_epoch(event: &Value) -> bool {
    event["event"] == "batch" && event["epoch"] == 2
}

/// Starts a run in `out` and interrupts it in the second epoch of the transfer stage. The run then has
/// two checkpoints.
fn interrupted_run(dir: &TestDir, out: &str) {
    let run = interrupt(dir, &train(&["--out", out]), &["INT"], &is_second_epoch);
    assert_eq!(run.code, Some(130));
}

fn has_fields(event: &Value, fields: &[(&str, Value)]) -> bool {
    fields.iter().all(|(key, value)| event[*key] == *value)
}

/// The names of the checkpoints of a run, oldest first.
fn checkpoints(dir: &TestDir, run: &str) -> Vec<String> {
    let mut names = dir.files(run);
    names.retain(|name| name.starts_with("checkpoint-"));
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bytes() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    let event = |event: &str, stage: &str, phase: &str, epoch: u64| {
        [
            ("event", event.into()),
            ("stage", stage.into()),
            ("phase", phase.into()),
            ("epoch", epoch.into()),
        ]
    };
    let moments = [
        ("INT", 130, event("batch", "transfer", "val", 1)),
        ("TERM", 143, event("batch", "transfer", "train", 2)),
        ("INT", 130, event("phase", "transfer", "val", 2)),
        ("INT", 130, event("batch", "finetune", "val", 1)),
        ("TERM", 143, event("batch", "finetune", "train", 3)),
        ("INT", 130, event("phase", "finetune", "train", 3)),
        ("INT", 130, event("batch", "finetune", "val", 3)),
    ];
    for (number, (signal, code, fields)) in moments.iter().enumerate() {
        let out = format!("stopped-{number}");
        let run = interrupt(&dir, &train(&["--out", &out]), &[signal], &|event| {
            has_fields(event, fields)
        });
        assert_eq!(run.code, Some(*code), "{fields:?}");
        let last = run.events.last().unwrap();
        assert_eq!(last["event"], "interrupted");
        assert_eq!(last["directory"], Value::from(out.as_str()));
        assert!(
            !dir.files(&out)
                .contains(&"confusion_matrix.png".to_string())
        );

        // Arguments that do not change the result are accepted.
        let other: &[&str] = if number % 2 == 0 {
            &["--workers", "1", "--cache-images", "0"]
        } else {
            &[]
        };
        let stdout = dir.succeeds(&[&["train", "--resume", &out], other].concat());
        assert!(stdout.contains("Resuming from "), "{stdout}");
        dir.assert_same_result(&out, "whole");
    }
}

#[test]
fn a_run_can_be_interrupted_many_times() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    interrupted_run(&dir, "run");
    let mut stops = 0;
    loop {
        // Interrupt each resumed run after its second batch.
        let batches = std::cell::Cell::new(0);
        let run = interrupt(&dir, &["train", "--resume", "run"], &["INT"], &|event| {
            batches.set(batches.get() + usize::from(event["event"] == "batch"));
            batches.get() == 2 || event["event"] == "done"
        });
        match run.code {
            Some(130) => stops += 1,
            Some(0) => break,
            code => panic!("unexpected exit code {code:?}"),
        }
    }
    assert!(stops > 2, "only {stops} interruptions");
    dir.assert_same_result("run", "whole");
}

#[test]
fn the_second_signal_ends_the_run_at_once() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // The process is stopped while both signals arrive, so both are pending when it continues.
    let signals = ["STOP", "INT", "TERM", "CONT"];
    let names = (0..10).map(|number| format!("run-{number}"));
    let run = names.into_iter().find(|name| {
        let arguments = train(&["--out", name]);
        let run = interrupt(&dir, &arguments, &signals, &is_second_epoch);
        assert!(matches!(run.code, Some(130 | 143)));
        // If two threads handle the signals at the same moment, neither signal counts as the
        // second, and the run stops only after its batch.
        let mut events = run.events.iter();
        events.all(|event| event["event"] != "interrupted")
    });
    let run = run.expect("the second signal ends one of ten runs at once");
    dir.succeeds(&["train", "--resume", &run]);
    dir.assert_same_result(&run, "whole");
}

#[test]
fn a_signal_before_the_first_checkpoint_ends_the_run_at_once() {
    let dir = TestDir::with_stripes();
    let signals = ["STOP", "TERM", "CONT"];
    let is_data = |event: &Value| event["event"] == "data";
    // The first checkpoint may be complete before the signal arrives, but not in all attempts.
    let ends_at_once = (0..20).any(|number| {
        let out = format!("run-{number}");
        let run = interrupt(&dir, &train(&["--out", &out]), &signals, &is_data);
        assert_eq!(run.code, Some(143));
        let mut events = run.events.iter();
        events.all(|event| event["event"] != "interrupted")
    });
    assert!(ends_at_once);
}

#[test]
fn settings_and_other_weights_are_errors_with_resume() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    for [setting, value] in SETTINGS {
        let message = dir.fails(2, &["train", "--resume", "run", setting, value]);
        assert!(message.contains(setting), "{setting}: {message}");
        assert!(
            message.contains("a resumed run keeps its settings"),
            "{message}"
        );
    }
    dir.fails(2, &["train", "--allow-changed-data"]);
    dir.tiny_weights("tiny.safetensors", 11);
    let message = dir.fails(1, &["train", "--resume", "run"]);
    assert!(
        message.contains("tiny.safetensors") && message.contains("SHA-256"),
        "{message}"
    );
    // Another file with the original contents is accepted.
    dir.tiny_weights("copy.safetensors", 10);
    dir.succeeds(&["train", "--resume", "run", "--weights", "copy.safetensors"]);
}

#[test]
fn weights_of_another_architecture_are_an_error_that_asks_for_the_original_file() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    let message = dir.fails(1, &["train", "--resume", "run", "--weights", "sample"]);
    assert!(
        message.contains("the weights sample are not those of the run")
            && message.contains("pass the original file with `--weights`")
            && !message.contains("--arch"),
        "{message}"
    );
}

#[test]
fn changed_images_are_an_error_without_allow_changed_data() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    dir.image("data/train/horizontal/99.png", 0, 3);
    dir.image("data/train/vertical/04.png", 1, 77);
    std::fs::remove_file(dir.path("data/val/horizontal/01.png")).unwrap();
    let message = dir.fails(1, &["train", "--resume", "run"]);
    for part in [
        "1 added: train/horizontal/99.png",
        "1 removed: val/horizontal/01.png",
        "1 modified: train/vertical/04.png",
        "--allow-changed-data",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let output = dir.waggle(&["train", "--resume", "run", "--allow-changed-data"]);
    let (_, stderr) = stdout_and_stderr(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("1 added: train/horizontal/99.png"),
        "{stderr}"
    );
}

#[test]
fn a_run_resumes_with_a_moved_data_folder() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    interrupted_run(&dir, "run");
    std::fs::rename(dir.path("data"), dir.path("moved")).unwrap();
    dir.fails(1, &["train", "--resume", "run"]);
    dir.succeeds(&["train", "--resume", "run", "--data", "moved"]);
    dir.assert_same_result("run", "whole");
}

#[test]
fn the_checkpoint_before_a_damaged_one_is_used() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    interrupted_run(&dir, "run");
    let names = checkpoints(&dir, "run");
    let [older, newest] = &names[..] else {
        panic!("{names:?}");
    };
    let mut bytes = dir.read(&format!("run/{newest}"));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    dir.write(&format!("run/{newest}"), &bytes);
    let output = dir.waggle(&["train", "--resume", "run"]);
    let (stdout, stderr) = stdout_and_stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let warning = format!("ignoring the damaged checkpoint run/{newest}: ");
    assert!(stderr.contains(&warning), "{stderr}");
    let resumed = format!("Resuming from run/{older}");
    assert!(stdout.contains(&resumed), "{stdout}");
    dir.assert_same_result("run", "whole");
}

#[test]
fn a_run_without_an_intact_checkpoint_cannot_be_resumed() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    for name in checkpoints(&dir, "run") {
        dir.write(&format!("run/{name}"), b"damaged");
    }
    for name in LOOKALIKES {
        dir.write(&format!("run/{name}"), b"damaged");
    }
    let message = assert_resume_changes_nothing(&dir, "run");
    let warnings = message.matches("ignoring the damaged checkpoint").count();
    assert!(warnings >= 2, "{message}");
    assert!(
        message.contains("error: run has no intact checkpoint to resume from\n"),
        "{message}"
    );
}

#[test]
fn a_checkpoint_of_another_format_is_an_error_and_is_kept() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    let names = checkpoints(&dir, "run");
    let newest = format!("run/{}", names.last().unwrap());
    // The first format had no version in its metadata. The second stored the arguments of the run
    // instead of its configuration.
    for (format, version) in [(None, "1"), (Some("2"), "2"), (Some("4"), "4")] {
        let bytes = with_format(&dir.read(&newest), format);
        dir.write(&newest, &bytes);
        let message = assert_resume_changes_nothing(&dir, "run");
        let expected = format!("error: {newest} has checkpoint format {version};");
        assert!(message.contains(&expected), "{message}");
    }
}

/// The bytes of `checkpoint` with the format version `format`, or none, in the metadata, and with a
/// matching checksum.
fn with_format(checkpoint: &[u8], format: Option<&str>) -> Vec<u8> {
    let length = u64::from_le_bytes(checkpoint[..8].try_into().unwrap()) as usize;
    let (header, data) = checkpoint[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    metadata.remove("format");
    if let Some(format) = format {
        metadata.insert("format".to_string(), format.into());
    }
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(&data[..data.len() - 32]);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

#[test]
fn a_run_without_checkpoints_is_finished_or_cannot_be_resumed() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "run"]));
    let resume = ["train", "--resume", "run"];
    let stdout = dir.succeeds(&resume);
    assert!(stdout.contains("already finished"), "{stdout}");
    let message = dir.fails(1, &["train", "--resume", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
    // With half of its metrics, the run is one that lost its checkpoints before it finished.
    let rows = dir.read("run/metrics.csv");
    dir.write("run/metrics.csv", &rows[..rows.len() / 2]);
    let message = dir.fails(1, &resume);
    assert!(
        message.contains("`--weights run/model.safetensors`"),
        "{message}"
    );
}

/// File names: three temporary files and a checkpoint as in a run directory, and a name that only
/// resembles that of a checkpoint.
const LOOKALIKES: [&str; 5] = [
    ".waggle-Xy12ab",
    ".model.safetensors.4711",
    ".checkpoint-3.safetensors",
    "checkpoint-2.safetensors",
    "checkpoint-+7.safetensors",
];

/// Expects `train --resume FOLDER` to exit with 1 and an error that names the folder, and to change
/// nothing in the folder. Returns standard error.
#[track_caller]
fn assert_resume_changes_nothing(dir: &TestDir, folder: &str) -> String {
    let before = dir.contents(folder);
    let message = dir.fails(1, &["train", "--resume", folder]);
    assert!(message.contains(folder), "{message}");
    assert_eq!(dir.contents(folder), before);
    message
}

#[test]
fn a_folder_that_is_not_a_run_is_an_error_and_stays_unchanged() {
    let dir = TestDir::new();
    for name in LOOKALIKES {
        dir.write(&format!("notes/{name}"), b"not a checkpoint");
        dir.write(&format!("other-config/{name}"), name.as_bytes());
        dir.write(&format!("broken-config/{name}"), b"");
    }
    dir.write("notes/thesis.txt", b"important");
    dir.write("notes/.waggle-folder/inner", b"important");
    dir.write("other-config/config.toml", b"[package]\nname = \"x\"\n");
    dir.write("broken-config/config.toml", b"[data");
    dir.write("only-config/config.toml", b"title = \"a website\"\n");
    dir.write("only-names/checkpoint-007.safetensors", b"");
    std::fs::create_dir(dir.path("empty")).unwrap();
    for folder in [
        "notes",
        "other-config",
        "broken-config",
        "only-config",
        "only-names",
        "empty",
    ] {
        let message = assert_resume_changes_nothing(&dir, folder);
        let error = format!("error: {folder} is not a run directory\n");
        assert!(message.contains(&error), "{message}");
        let reason = if dir.path(folder).join("config.toml").exists() {
            format!("{folder}/config.toml is not the configuration of a run")
        } else {
            format!("no such file: {folder}/config.toml")
        };
        assert!(message.contains(&reason), "{message}");
    }
}

#[test]
fn a_resumed_run_removes_temporary_files() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    interrupted_run(&dir, "run");
    for name in &LOOKALIKES[..3] {
        dir.write(&format!("run/{name}"), b"incomplete");
    }
    // Without `config.toml`, the run is recognized by its checkpoints.
    let config = dir.read("run/config.toml");
    std::fs::remove_file(dir.path("run/config.toml")).unwrap();
    dir.succeeds(&["train", "--resume", "run"]);
    dir.write("run/config.toml", &config);
    dir.assert_same_result("run", "whole");
}

#[test]
fn a_full_disk_ends_the_run_and_the_previous_checkpoint_is_intact() {
    use std::os::unix::process::CommandExt;
    let dir = TestDir::with_stripes();
    // Use weights that are larger than the run's plots, so that no plot exceeds the limit below.
    dir.weights("tiny.safetensors", 10, 300, false);
    dir.succeeds(&train(&["--out", "whole"]));
    let model = dir.read("whole/model.safetensors").len() as u64;
    let mut command = dir.command(&train(&["--out", "run"]));
    // The model and the checkpoints of the transfer stage are smaller than the limit. Checkpoints
    // after the first step of the finetune stage hold velocities of all layers and are larger.
    let limit = model + model / 2;
    // SAFETY: only async-signal-safe calls are allowed between fork and exec. POSIX lists `signal` as
    // one, and `setrlimit` only makes a system call. The closure neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            // With the signal ignored, a write above the limit returns an error (EFBIG), much as on
            // a full disk (ENOSPC).
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let (stdout, stderr) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("Stage finetune"), "{stdout}");
    for part in [
        "cannot write the checkpoint run/checkpoint-",
        "`waggle train --resume run`",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let files = dir.files("run");
    assert!(
        files.iter().all(|name| !name.starts_with('.')),
        "temporary files remain: {files:?}"
    );
    dir.succeeds(&["train", "--resume", "run"]);
    dir.assert_same_result("run", "whole");
}

#[test]
fn a_resumed_finetune_stage_states_its_own_number_of_trainable_parameters() {
    let dir = TestDir::with_stripes();
    let is_finetune = |event: &Value| {
        has_fields(
            event,
            &[("stage", "finetune".into()), ("phase", "train".into())],
        )
    };
    interrupt(&dir, &train(&["--out", "run"]), &["INT"], &is_finetune);
    let stdout = dir.succeeds(&["train", "--resume", "run"]);
    let number = |start: &str, end: &str| {
        let (_, rest) = stdout.split_once(start).expect(start);
        rest.split_once(end).expect(end).0.to_string()
    };
    let trainable = number(" parameters, ", " trainable");
    assert_eq!(trainable, number("Training ", " parameters"), "{stdout}");
}
