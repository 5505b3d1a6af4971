//! An interrupted run resumes to a byte-identical result. Settings that could change the result are
//! errors, and `--resume` changes nothing in a folder that is not a run.

#![cfg(unix)]

mod harness;

use harness::{TestDir, interrupt, is_second_epoch, stdout_and_stderr, train_args, with_metadata};
use serde_json::Value;

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

/// Starts a run in `out` and interrupts it in the second epoch of the transfer stage. The run then has
/// two checkpoints.
fn interrupted_run(dir: &TestDir, out: &str) {
    harness::interrupted_run(dir, &train(&["--out", out]));
}

fn has_fields(event: &Value, fields: &[(&str, Value)]) -> bool {
    fields.iter().all(|(key, value)| event[*key] == *value)
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bytes() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // So the comparisons include the temperature.
    let whole = dir.read("whole/model.safetensors");
    let (_, header) = safetensors::SafeTensors::read_metadata(&whole).unwrap();
    assert!(
        header
            .metadata()
            .as_ref()
            .unwrap()
            .contains_key("temperature")
    );
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
    let names = dir.checkpoints("run");
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
    let checkpoints = dir.checkpoints("run");
    for name in &checkpoints {
        dir.write(&format!("run/{name}"), b"damaged");
    }
    let message = assert_resume_changes_nothing(&dir, "run");
    let warnings = message.matches("ignoring the damaged checkpoint").count();
    assert_eq!(warnings, 2, "{message}");
    assert!(
        message.contains("error: run has no intact checkpoint to resume from\n"),
        "{message}"
    );
    for name in &checkpoints {
        std::fs::remove_file(dir.path("run").join(name)).unwrap();
    }
    let message = assert_resume_changes_nothing(&dir, "run");
    assert!(
        message.contains("`--weights run/model.safetensors`"),
        "{message}"
    );
}

#[test]
fn a_checkpoint_of_a_later_version_is_an_error_and_is_kept() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    let newest = format!("run/{}", dir.checkpoints("run").last().unwrap());
    let original = dir.read(&newest);
    let later = with_metadata(&original, |metadata| {
        metadata.insert("format".to_string(), "7".into());
        metadata.insert("waggle".to_string(), "3.2.1\nerror: x".into());
        metadata.insert("run".to_string(), "unknown".into());
    });
    dir.write(&newest, &later);
    let message = assert_resume_changes_nothing(&dir, "run");
    for part in [
        "was written by waggle 3.2.1\\nerror: x with checkpoint format 7; this version of waggle reads format 1\n",
        "help: resume the run with waggle 3.2.1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // A format that is not safetensors, with the checksum that every format has.
    let mut later = b"a later format".to_vec();
    later.extend(sha2::Digest::finalize(
        <sha2::Sha256 as sha2::Digest>::new_with_prefix(&later),
    ));
    dir.write(&newest, &later);
    let message = assert_resume_changes_nothing(&dir, "run");
    assert!(
        message.contains(&format!(
            "{newest} is intact, but this version of waggle cannot read it"
        )),
        "{message}"
    );
    // The other checkpoint is used once the newest is moved away, as the message advises.
    std::fs::remove_file(dir.path(&newest)).unwrap();
    dir.succeeds(&["train", "--resume", "run"]);
}

#[test]
fn a_run_of_another_checkpoint_format_is_an_error() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    let marker = String::from_utf8(dir.read("run/run.toml")).unwrap();
    let later = marker.replace("checkpoint_format = 1", "checkpoint_format = 7");
    assert_ne!(marker, later);
    dir.write("run/run.toml", later.as_bytes());
    let message = assert_resume_changes_nothing(&dir, "run");
    assert!(message.contains("with checkpoint format 7"), "{message}");
}

#[test]
fn a_finished_run_has_nothing_to_resume() {
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    dir.copy_folder("run", "killed");
    dir.succeeds(&["train", "--resume", "run"]);
    let before = dir.contents("run");
    let resume = |run: &str| {
        let stdout = dir.succeeds(&["train", "--resume", run]);
        assert!(stdout.contains("already finished"), "{stdout}");
    };
    resume("run");
    assert_eq!(dir.contents("run"), before);
    std::fs::remove_file(dir.path("run/metrics.csv")).unwrap();
    resume("run");
    // The process was killed after the run was complete and before its checkpoints were removed.
    dir.write("killed/run.toml", &dir.read("run/run.toml"));
    dir.write("killed/checkpoint-900.safetensors", b"mine");
    resume("killed");
    assert_eq!(dir.checkpoints("killed"), ["checkpoint-900.safetensors"]);
    let message = dir.fails(1, &["train", "--resume", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
}

/// File names that resemble those of temporary files and checkpoints.
const LOOKALIKES: [&str; 6] = [
    ".waggle-Xy12ab",
    ".waggle-backup",
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
    let dir = TestDir::with_stripes();
    interrupted_run(&dir, "run");
    for name in LOOKALIKES {
        dir.write(&format!("notes/{name}"), b"not a checkpoint");
        dir.write(&format!("other-marker/{name}"), name.as_bytes());
        dir.write(&format!("broken-marker/{name}"), b"");
    }
    dir.write("notes/thesis.txt", b"important");
    dir.write("notes/.waggle-folder/inner", b"important");
    dir.write("other-marker/run.toml", b"[package]\nname = \"x\"\n");
    dir.write("broken-marker/run.toml", b"[data");
    dir.write("large-marker/run.toml", &vec![b'#'; 100_000]);
    let marker = String::from_utf8(dir.read("run/run.toml")).unwrap();
    let id = marker
        .lines()
        .find_map(|line| line.strip_prefix("id = "))
        .unwrap();
    let hostile = marker.replace(id, "\"../../data/train/horizontal/0000\"");
    dir.write("hostile-marker/run.toml", hostile.as_bytes());
    std::fs::create_dir(dir.path("empty")).unwrap();
    for folder in [
        "notes",
        "other-marker",
        "broken-marker",
        "large-marker",
        "hostile-marker",
        "empty",
    ] {
        let message = assert_resume_changes_nothing(&dir, folder);
        let error = format!("error: {folder} is not a run directory\n");
        assert!(message.contains(&error), "{message}");
        assert!(message.contains(&format!("{folder}/run.toml")), "{message}");
    }
}

#[test]
fn a_resumed_run_removes_its_temporary_files_and_no_others() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // Crash in the middle of a file, so that a temporary file remains.
    let crash = |out: &str| {
        let status = dir
            .command(&train(&["--out", out]))
            .env("WAGGLE_FAULT", "crash:400000")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), None, "{status}");
    };
    crash("run");
    crash("other");
    let temporary = |run: &str| {
        let mut names = dir.files(run);
        names.retain(|name| name.starts_with(".waggle-"));
        names
    };
    assert_eq!(temporary("run").len(), 1);
    // Those of another run, and names that look similar.
    let mut mine = temporary("other");
    mine.extend(LOOKALIKES.map(String::from));
    mine.extend(["checkpoint-900.safetensors".to_string()]);
    mine.retain(|name| name != "checkpoint-2.safetensors");
    for name in &mine {
        dir.write(&format!("run/{name}"), b"mine");
    }
    dir.succeeds(&["train", "--resume", "run"]);
    for name in &mine {
        assert_eq!(dir.read(&format!("run/{name}")), b"mine", "{name}");
        std::fs::remove_file(dir.path("run").join(name)).unwrap();
    }
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
    // SAFETY: only async-signal-safe calls are allowed between fork and exec. `setrlimit` only makes a
    // system call. The closure neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            // A write above the limit returns an error (EFBIG), much as on a full disk (ENOSPC).
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
