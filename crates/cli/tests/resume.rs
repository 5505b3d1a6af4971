//! A training that is interrupted goes on to the same bytes; one that would not is refused.

#![cfg(unix)]

mod harness;

use std::io::{BufRead, BufReader, Read};

use harness::{TestDir, json_lines, send_signal, stdout_and_stderr, train_args};
use serde_json::Value;

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(
        ["4", "5"],
        "4",
        &[&["--lr", "1e-2", "--checkpoint-every", "0.0001"], more],
    )
}

/// What would change the result of such a run, and what the refusal names.
const REFUSED: [([&str; 2], &str); 11] = [
    (["--lr", "0.5"], "--lr"),
    (["--transfer-layers", "classifier"], "--transfer-layers"),
    (["--batch-size", "8"], "--batch-size"),
    (["--seed", "5"], "--seed"),
    (["--momentum", "0.5"], "--momentum"),
    (["--threads", "1"], "--threads"),
    (["--finetune-epochs", "6"], "--finetune-epochs"),
    (["--finetune-lr", "classifier=1e-3"], "--finetune-lr"),
    (["--stage", "transfer"], "--stage"),
    (["--input-size", "48"], "--input-size"),
    (["--arch", "vgg16"], "--arch"),
];

/// How a run ended that got signals.
struct Ended {
    code: Option<i32>,
    events: Vec<Value>,
}

/// Starts a training into `out`, sends `signals` at the first event that is `when`, and waits for its end.
fn interrupt(
    dir: &TestDir,
    arguments: &[&str],
    signals: &[&str],
    when: &dyn Fn(&Value) -> bool,
) -> Ended {
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
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "");
    let code = child.wait().unwrap().code();
    Ended { code, events }
}

/// Signals a training into `out` in its second transfer epoch.
fn stopped_run(dir: &TestDir, out: &str) {
    let early = |event: &Value| event["event"] == "batch" && event["epoch"] == 2;
    let ended = interrupt(dir, &train(&["--out", out]), &["INT"], &early);
    assert_eq!(ended.code, Some(130));
}

fn is(event: &Value, wanted: &[(&str, Value)]) -> bool {
    wanted.iter().all(|(key, value)| event[*key] == *value)
}

#[test]
fn an_interrupted_run_ends_with_the_same_bytes_as_an_uninterrupted_one() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    let at = |event: &str, stage: &str, phase: &str, epoch: u64| {
        [
            ("event", event.into()),
            ("stage", stage.into()),
            ("phase", phase.into()),
            ("epoch", epoch.into()),
        ]
    };
    let moments = [
        ("INT", 130, at("batch", "transfer", "val", 1)),
        ("TERM", 143, at("batch", "transfer", "train", 2)),
        ("INT", 130, at("phase", "transfer", "val", 2)),
        ("INT", 130, at("batch", "finetune", "val", 1)),
        ("TERM", 143, at("batch", "finetune", "train", 3)),
        ("INT", 130, at("phase", "finetune", "train", 3)),
        ("INT", 130, at("batch", "finetune", "val", 3)),
    ];
    for (number, (signal, code, moment)) in moments.iter().enumerate() {
        let out = format!("stopped-{number}");
        let ended = interrupt(&dir, &train(&["--out", &out]), &[signal], &|event| {
            is(event, moment)
        });
        assert_eq!(ended.code, Some(*code), "{moment:?}");
        let last = ended.events.last().unwrap();
        assert_eq!(last["event"], "interrupted");
        assert_eq!(last["directory"], Value::from(out.as_str()));
        assert!(
            !dir.files(&out)
                .contains(&"confusion_matrix.png".to_string())
        );

        // What cannot change the result may be given anew.
        let other: &[&str] = if number % 2 == 0 {
            &["--workers", "1", "--cache-images", "0", "--lr", "0.01"]
        } else {
            &[]
        };
        let told = dir.succeeds(&[&["train", "--resume", &out], other].concat());
        assert!(told.contains("Going on from "), "{told}");
        dir.assert_same_result(&out, "whole");
    }
}

#[test]
fn a_run_may_be_interrupted_again_and_again() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    stopped_run(&dir, "run");
    let mut stops = 0;
    loop {
        // Each time after two more batches.
        let seen = std::cell::Cell::new(0);
        let ended = interrupt(&dir, &["train", "--resume", "run"], &["INT"], &|event| {
            seen.set(seen.get() + usize::from(event["event"] == "batch"));
            seen.get() == 2 || event["event"] == "done"
        });
        match ended.code {
            Some(130) => stops += 1,
            Some(0) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(stops > 2, "{stops}");
    dir.assert_same_result("run", "whole");
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    // Both arrive before the next batch is done, in one order or the other.
    let early = |event: &Value| event["event"] == "batch" && event["epoch"] == 2;
    let signals = ["STOP", "INT", "TERM", "CONT"];
    let names = (0..10).map(|number| format!("run-{number}"));
    let run = names.into_iter().find(|run| {
        let ended = interrupt(&dir, &train(&["--out", run]), &signals, &early);
        assert!(matches!(ended.code, Some(130 | 143)));
        // Two threads may get them at the very same moment, when neither is the second.
        let mut events = ended.events.iter();
        events.all(|event| event["event"] != "interrupted")
    });
    let run = run.expect("a second signal ends it");
    dir.succeeds(&["train", "--resume", &run]);
    dir.assert_same_result(&run, "whole");
}

#[test]
fn a_signal_before_anything_can_be_lost_ends_it_at_once() {
    let dir = TestDir::with_stripes();
    let first = |event: &Value| event["event"] == "data";
    let signals = ["STOP", "TERM", "CONT"];
    let mut ended = interrupt(&dir, &train(&["--out", "run"]), &signals, &first);
    // The program may be past this part when the signal comes; not every time.
    for number in 0..20 {
        if ended
            .events
            .iter()
            .all(|event| event["event"] != "interrupted")
        {
            break;
        }
        let out = format!("run-{number}");
        ended = interrupt(&dir, &train(&["--out", &out]), &signals, &first);
    }
    assert_eq!(ended.code, Some(143));
    assert!(
        ended
            .events
            .iter()
            .all(|event| event["event"] != "interrupted")
    );
}

#[test]
fn what_would_change_the_result_is_refused_and_named() {
    let dir = TestDir::with_stripes();
    stopped_run(&dir, "run");
    for (more, named) in REFUSED {
        let message = dir.fails(1, &[&["train", "--resume", "run"][..], &more].concat());
        assert!(message.contains(named), "{named}: {message}");
    }
    let message = dir.fails(2, &["train", "--resume", "run", "--out", "other"]);
    assert!(message.contains("--out"), "{message}");
    dir.fails(2, &["train", "--allow-changed-data"]);
    dir.tiny_weights("tiny.safetensors", 11);
    let message = dir.fails(1, &["train", "--resume", "run"]);
    assert!(
        message.contains("tiny.safetensors") && message.contains("SHA-256"),
        "{message}"
    );
    // A copy of the right file elsewhere will do.
    dir.tiny_weights("copy.safetensors", 10);
    dir.succeeds(&["train", "--resume", "run", "--weights", "copy.safetensors"]);
}

#[test]
fn changed_pictures_are_refused_unless_they_are_wanted() {
    let dir = TestDir::with_stripes();
    stopped_run(&dir, "run");
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
    let told = dir.succeeds(&["train", "--resume", "run", "--allow-changed-data"]);
    assert!(told.contains("1 added: train/horizontal/99.png"), "{told}");
}

#[test]
fn a_folder_that_was_moved_is_still_the_same() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    stopped_run(&dir, "run");
    std::fs::rename(dir.path("data"), dir.path("moved")).unwrap();
    dir.fails(1, &["train", "--resume", "run"]);
    dir.succeeds(&["train", "--resume", "run", "--data", "moved"]);
    dir.assert_same_result("run", "whole");
}

#[test]
fn a_damaged_checkpoint_is_told_of_and_the_one_before_it_used() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    stopped_run(&dir, "run");
    let checkpoints: Vec<String> = dir
        .files("run")
        .into_iter()
        .filter(|name| name.starts_with("checkpoint-"))
        .collect();
    assert_eq!(checkpoints.len(), 2);
    let number = |name: &String| -> u64 {
        let digits = name.trim_start_matches("checkpoint-");
        digits.trim_end_matches(".safetensors").parse().unwrap()
    };
    let newest = checkpoints.iter().max_by_key(|name| number(name)).unwrap();
    let mut bytes = dir.read(&format!("run/{newest}"));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    dir.write(&format!("run/{newest}"), &bytes);
    let told = dir.succeeds(&["train", "--resume", "run"]);
    assert!(told.contains(&format!("Damaged: run/{newest}")), "{told}");
    let older = checkpoints.iter().find(|name| *name != newest).unwrap();
    assert!(
        told.contains(&format!("Going on from run/{older}")),
        "{told}"
    );
    dir.assert_same_result("run", "whole");

    stopped_run(&dir, "lost");
    for name in dir.files("lost") {
        if name.starts_with("checkpoint-") {
            dir.write(&format!("lost/{name}"), b"damaged");
        }
    }
    let (told, message) = stdout_and_stderr(&dir.waggle(&["train", "--resume", "lost"]));
    assert!(message.contains("no checkpoint that is whole"), "{message}");
    assert_eq!(told.matches("; it is not used").count(), 2, "{told}");
    assert!(!told.contains("Going on from"), "{told}");
}

#[test]
fn a_finished_run_says_so_and_one_without_checkpoint_too() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "run"]));
    let told = dir.succeeds(&["train", "--resume", "run"]);
    assert!(told.contains("done already"), "{told}");
    // It is refused what a run that can go on is refused, and no more.
    for (more, named) in REFUSED {
        let message = dir.fails(1, &[&["train", "--resume", "run"][..], &more].concat());
        assert!(message.contains(named), "{named}: {message}");
    }
    let same = ["--lr", "0.01", "--workers", "1", "--stage", "both"];
    let told = dir.succeeds(&[&["train", "--resume", "run"][..], &same].concat());
    assert!(told.contains("done already"), "{told}");
    let message = dir.fails(1, &["train", "--resume", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
    // A run of an earlier version, which made none, and which was killed.
    let rows = dir.read("run/metrics.csv");
    let half = &rows[..rows.len() / 2];
    dir.write("run/metrics.csv", half);
    let message = dir.fails(1, &["train", "--resume", "run"]);
    assert!(message.contains("--weights"), "{message}");
}

/// Files whose names look like what an interrupted run leaves behind.
const LOOKALIKES: [&str; 5] = [
    ".waggle-Xy12ab",
    ".model.safetensors.4711",
    ".checkpoint-3.safetensors",
    "checkpoint-2.safetensors",
    "checkpoint-+7.safetensors",
];

/// Expects `--resume FOLDER` to fail with code 1, to name the folder and to change nothing in it.
#[track_caller]
fn resume_leaves_alone(dir: &TestDir, folder: &str) -> String {
    let before = dir.contents(folder);
    let message = dir.fails(1, &["train", "--resume", folder]);
    assert!(message.contains(folder), "{message}");
    assert_eq!(dir.contents(folder), before);
    message
}

#[test]
fn resume_changes_nothing_in_a_folder_that_is_not_a_run() {
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
        let message = resume_leaves_alone(&dir, folder);
        let what = format!("error: {folder} is not a run directory");
        assert!(message.contains(&what), "{message}");
        let reason = if dir.path(folder).join("config.toml").exists() {
            format!("{folder}/config.toml is not the configuration of a run")
        } else {
            format!("there is no {folder}/config.toml")
        };
        assert!(message.contains(&reason), "{message}");
    }
}

#[test]
fn resume_changes_nothing_in_a_run_without_an_intact_checkpoint() {
    let dir = TestDir::with_stripes();
    stopped_run(&dir, "run");
    for name in dir.files("run") {
        if name.starts_with("checkpoint-") {
            dir.write(&format!("run/{name}"), b"damaged");
        }
    }
    for name in LOOKALIKES {
        dir.write(&format!("run/{name}"), b"damaged");
    }
    resume_leaves_alone(&dir, "run");
}

#[test]
fn a_resumed_run_removes_what_a_killed_process_left() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--out", "whole"]));
    stopped_run(&dir, "run");
    for name in &LOOKALIKES[..3] {
        dir.write(&format!("run/{name}"), b"half");
    }
    // Without its configuration, a run is recognized by its checkpoints.
    let config = dir.read("run/config.toml");
    std::fs::remove_file(dir.path("run/config.toml")).unwrap();
    dir.succeeds(&["train", "--resume", "run"]);
    dir.write("run/config.toml", &config);
    dir.assert_same_result("run", "whole");
}

#[test]
fn a_full_disk_ends_the_run_and_the_checkpoint_before_it_is_good() {
    use std::os::unix::process::CommandExt;
    let dir = TestDir::with_stripes();
    // Large beside the pictures that the run draws.
    dir.weights("tiny.safetensors", 10, 300, false);
    dir.succeeds(&train(&["--out", "whole"]));
    let model = dir.read("whole/model.safetensors").len() as u64;
    let mut command = dir.command(&train(&["--out", "run"]));
    // A model and a checkpoint of the transfer stage are smaller, one of the fine-tuning stage is larger.
    let limit = model + model / 2;
    // SAFETY: both calls only change settings of the new process, and are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // Without this the signal would end the process where a full disk gives an error.
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
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("Stage finetune"), "{out}");
    for part in [
        "cannot write the checkpoint run/checkpoint-",
        "the one before it is whole",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(
        dir.files("run").iter().all(|name| !name.starts_with('.')),
        "nothing half written stays"
    );
    dir.succeeds(&["train", "--resume", "run"]);
    dir.assert_same_result("run", "whole");
}
