//! The files of a run: unrelated, damaged and foreign files in its directory, full disks, copies of
//! runs, and runs that are not finished.

#![cfg(unix)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use harness::{
    TestDir, interrupt, interrupted_run, send_signal, stdout_and_stderr, train_args, with_metadata,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn train(out: &str) -> Vec<&str> {
    let more: &[&str] = &["--lr", "1e-2", "--checkpoint-every", "0.0001", "--out", out];
    train_args(["3", "2"], "4", &[more])
}

/// A folder with a finished run `whole` and an equal run `stopped`, which was interrupted and has two
/// checkpoints.
fn with_runs() -> TestDir {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train("whole"));
    interrupted_run(&dir, &train("stopped"));
    dir
}

/// Resumes a run, expects it to finish with the result of `whole`, and returns standard output and
/// standard error.
#[track_caller]
fn resumes(dir: &TestDir, run: &str) -> (String, String) {
    let output = dir.waggle(&["train", "--resume", run]);
    let (stdout, stderr) = stdout_and_stderr(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_same_files(dir, run, "whole");
    (stdout, stderr)
}

/// Like [`TestDir::assert_same_result`], for a run with unrelated files in its directory.
#[track_caller]
fn assert_same_files(dir: &TestDir, run: &str, other: &str) {
    for file in [
        "model.safetensors",
        "confusion_matrix.png",
        "predictions.csv",
    ] {
        let bytes = |run: &str| dir.read(&format!("{run}/{file}"));
        assert!(bytes(run) == bytes(other), "{file} of {run}");
    }
    assert_eq!(dir.metrics(run), dir.metrics(other));
}

fn exists(dir: &TestDir, name: &str) -> bool {
    dir.path(name).symlink_metadata().is_ok()
}

#[test]
fn a_damaged_newest_checkpoint_does_not_change_the_result() {
    let dir = with_runs();
    let newest = dir.checkpoints("stopped").pop().unwrap();
    let whole = dir.read(&format!("stopped/{newest}"));
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut below = |bound: usize| (random.next_u64() % bound as u64) as usize;
    // Half of the damage is in the header, which is a small part of the file.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for round in 0..12 {
        let mut bytes = whole.clone();
        let at = below(if round % 4 < 2 { header } else { whole.len() });
        if round % 2 == 0 {
            bytes[at] ^= 1 << below(8);
        } else {
            bytes.truncate(at);
        }
        let run = format!("run-{round}");
        dir.copy_folder("stopped", &run);
        dir.write(&format!("{run}/{newest}"), &bytes);
        let (_, stderr) = resumes(&dir, &run);
        let warning = format!("ignoring the damaged checkpoint {run}/{newest}: ");
        assert!(stderr.contains(&warning), "{round}, byte {at}: {stderr}");
    }
}

#[test]
fn a_checkpoint_copied_from_another_run_is_an_error_and_is_kept() {
    let dir = with_runs();
    interrupted_run(&dir, &train("other"));
    let foreign = dir.read(&format!(
        "other/{}",
        dir.checkpoints("other").pop().unwrap()
    ));
    dir.write("stopped/checkpoint-900.safetensors", &foreign);
    let before = dir.contents("stopped");
    let message = dir.fails(1, &["train", "--resume", "stopped"]);
    assert!(
        message.contains("stopped/checkpoint-900.safetensors is a checkpoint of another run\n"),
        "{message}"
    );
    assert_eq!(dir.contents("stopped"), before);
    // One that is older than the newest checkpoint is neither used nor removed.
    fs::remove_file(dir.path("stopped/checkpoint-900.safetensors")).unwrap();
    dir.write("stopped/checkpoint-0.safetensors", &foreign);
    let (stdout, _) = resumes(&dir, "stopped");
    assert!(
        stdout.contains("not part of the run: checkpoint-0.safetensors\n"),
        "{stdout}"
    );
    assert_eq!(dir.read("stopped/checkpoint-0.safetensors"), foreign);
}

#[test]
fn an_intact_checkpoint_that_cannot_be_understood_is_an_error_and_is_kept() {
    let dir = with_runs();
    let newest = format!("stopped/{}", dir.checkpoints("stopped").pop().unwrap());
    for (key, from, to) in [
        ("run", "[config.training]", "[config.x]"),
        ("progress", "stage = 0", "stage = 9"),
    ] {
        let bytes = with_metadata(&dir.read(&newest), |metadata| {
            let text = metadata[key].as_str().unwrap();
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            metadata.insert(key.to_string(), changed.into());
        });
        dir.copy_folder("stopped", key);
        let path = newest.replace("stopped", key);
        dir.write(&path, &bytes);
        let message = dir.fails(1, &["train", "--resume", key]);
        let error = format!("{path} is intact, but this version of waggle cannot read it");
        assert!(message.contains(&error), "{message}");
        assert_eq!(dir.read(&path), bytes);
    }
}

#[test]
fn unrelated_files_among_the_checkpoints_are_ignored_with_a_line_and_kept() {
    let dir = with_runs();
    let files = [
        ".DS_Store",
        ".nfs000000000001",
        "checkpoint-+7.safetensors",
        "checkpoint-3.safetensors~",
        "epoch-3 (copy).ckpt",
        "notes.txt",
    ];
    for name in files {
        dir.write(&format!("stopped/{name}"), b"mine");
    }
    dir.write("target", b"mine");
    // The run resumes from checkpoint 5 or later, so it would use some of these numbers.
    let numbers: Vec<u64> = (6..40).collect();
    let special: Vec<String> = numbers
        .iter()
        .map(|number| format!("checkpoint-{number}.safetensors"))
        .filter(|name| !exists(&dir, &format!("stopped/{name}")))
        .collect();
    let mut sockets = Vec::new();
    for (index, name) in special.iter().enumerate() {
        let path = dir.path("stopped").join(name);
        match index % 4 {
            0 => fs::create_dir(path).unwrap(),
            1 => symlink(dir.path("target"), path).unwrap(),
            2 => dir.pipe(&format!("stopped/{name}")),
            _ => sockets.push(UnixListener::bind(path).unwrap()),
        }
    }
    let (stdout, stderr) = resumes(&dir, "stopped");
    let line = "Ignoring files that are not part of the run: .DS_Store, .nfs000000000001,";
    let text = stdout.replace("\n  ", " ");
    assert!(text.contains(line), "{stdout}{stderr}");
    for name in files {
        assert_eq!(dir.read(&format!("stopped/{name}")), b"mine", "{name}");
    }
    for name in &special {
        assert!(exists(&dir, &format!("stopped/{name}")), "{name}");
    }
    assert_eq!(dir.read("target"), b"mine");
}

#[test]
fn pipes_in_place_of_the_files_of_a_run_do_not_hang() {
    let dir = with_runs();
    dir.copy_folder("stopped", "unmarked");
    for name in ["config.toml", "metrics.csv", "model.safetensors"] {
        let _ = fs::remove_file(dir.path("stopped").join(name));
        dir.pipe(&format!("stopped/{name}"));
    }
    for command in [
        ["predict", "stopped", "data/val"],
        ["summary", "--model", "stopped"],
    ] {
        let message = dir.fails(1, &command);
        assert!(message.contains("stopped"), "{message}");
    }
    for weights in ["stopped/model.safetensors", "/dev/zero"] {
        let message = dir.fails(1, &["train", "--data", "data", "--weights", weights]);
        assert!(message.contains("not a regular file"), "{message}");
    }
    resumes(&dir, "stopped");
    fs::remove_file(dir.path("unmarked/run.toml")).unwrap();
    dir.pipe("unmarked/run.toml");
    resumes(&dir, "unmarked");
    // The configuration that `evaluate` reads next to the model.
    fs::remove_file(dir.path("stopped/config.toml")).unwrap();
    dir.pipe("stopped/config.toml");
    dir.succeeds(&["evaluate", "stopped", "--data", "data"]);
}

#[test]
fn a_changed_or_missing_config_is_restored_with_a_line() {
    let dir = with_runs();
    let config = String::from_utf8(dir.read("stopped/config.toml")).unwrap();
    let changes: [(&str, Option<String>); 5] = [
        ("unchanged", Some(config.clone())),
        ("missing", None),
        (
            "edited",
            Some(config.replace("momentum = 0.9", "momentum = 0.5")),
        ),
        ("longer", Some(format!("{config}# a note\n"))),
        ("empty", Some(String::new())),
    ];
    for (run, text) in changes {
        dir.copy_folder("stopped", run);
        let path = format!("{run}/config.toml");
        match &text {
            Some(text) => dir.write(&path, text.as_bytes()),
            None => fs::remove_file(dir.path(&path)).unwrap(),
        }
        let (_, stderr) = resumes(&dir, run);
        let line = match run {
            "unchanged" => "",
            "missing" => "warning: missing/config.toml was missing; restored it\n",
            _ => "/config.toml was not as the run had written it; restored it\n",
        };
        assert!(stderr.contains(line), "{run}: {stderr}");
        assert_eq!(stderr.is_empty(), run == "unchanged", "{stderr}");
        assert_eq!(String::from_utf8(dir.read(&path)).unwrap(), config);
    }
}

#[test]
fn a_lost_or_invalid_marker_is_restored_from_the_checkpoints_with_a_line() {
    let dir = with_runs();
    let marker = String::from_utf8(dir.read("stopped/run.toml")).unwrap();
    for (run, text) in [
        ("missing", None),
        ("empty", Some("")),
        ("cut", Some(&marker[..marker.len() / 2])),
        ("other", Some("[package]\nname = \"x\"\n")),
    ] {
        dir.copy_folder("stopped", run);
        let path = format!("{run}/run.toml");
        match text {
            Some(text) => dir.write(&path, text.as_bytes()),
            None => fs::remove_file(dir.path(&path)).unwrap(),
        }
        let (_, stderr) = resumes(&dir, run);
        let what = match run {
            "missing" => "was missing",
            _ => "was not as the run had written it",
        };
        let line = format!("warning: {run}/run.toml {what}; restored it\n");
        assert!(stderr.starts_with(&line), "{run}: {stderr}");
        let restored = String::from_utf8(dir.read(&path)).unwrap();
        let finished = marker.replace("finished = false", "finished = true");
        assert_eq!(restored, finished, "{run}");
    }
}

#[test]
fn a_marker_is_not_restored_from_damaged_or_hostile_checkpoints_or_those_of_several_runs() {
    let dir = with_runs();
    fs::remove_file(dir.path("stopped/run.toml")).unwrap();
    let names = dir.checkpoints("stopped");
    let checkpoint = dir.read(&format!("stopped/{}", names[1]));
    let with_id = |id: &str| {
        with_metadata(&checkpoint, |metadata| {
            metadata.insert("id".to_string(), id.into());
        })
    };
    let fails = |run: &str, error: &str| {
        let before = dir.contents(run);
        let message = dir.fails(1, &["train", "--resume", run]);
        assert!(message.contains(error), "{message}");
        assert_eq!(dir.contents(run), before);
        message
    };
    let not_a_run = "is not a run directory\n";
    dir.write(
        "damaged/checkpoint-1.safetensors",
        &checkpoint[..checkpoint.len() - 1],
    );
    fails("damaged", not_a_run);
    for id in ["../../data/train/horizontal/0000", "", "0123"] {
        dir.write("hostile/checkpoint-1.safetensors", &with_id(id));
        fails("hostile", not_a_run);
    }
    let other = "0123456789abcdef0123456789abcdef";
    dir.write("stopped/checkpoint-900.safetensors", &with_id(other));
    let message = fails("stopped", "its checkpoints are of several runs\n");
    let item = format!("  stopped/checkpoint-900.safetensors: run {other}\n");
    assert!(
        message.contains(&item) && message.contains("help: move "),
        "{message}"
    );
    fs::remove_file(dir.path("stopped/checkpoint-900.safetensors")).unwrap();
    resumes(&dir, "stopped");
}

#[test]
fn a_model_among_the_checkpoints_is_passed_over_with_its_kind_and_kept() {
    let dir = with_runs();
    let model = dir.read("stopped/model.safetensors");
    dir.weights_without_metadata("tiny.safetensors", "bare.safetensors");
    let weights = dir.read("bare.safetensors");
    let files = [
        ("stopped/checkpoint-900.safetensors", &model),
        ("stopped/checkpoint-901.safetensors", &weights),
    ];
    for (name, bytes) in files {
        dir.write(name, bytes);
    }
    let (_, stderr) = resumes(&dir, "stopped");
    for (number, kind) in [(900, "a model file"), (901, "a weights file")] {
        let line = format!(
            "warning: ignoring stopped/checkpoint-{number}.safetensors, which is {kind}, not a checkpoint\n"
        );
        assert!(stderr.contains(&line), "{stderr}");
    }
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    for (name, bytes) in files {
        assert_eq!(&dir.read(name), bytes);
    }
}

#[test]
fn an_empty_checkpoint_is_called_empty() {
    let dir = with_runs();
    dir.write("stopped/checkpoint-900.safetensors", b"");
    let (_, stderr) = resumes(&dir, "stopped");
    let line =
        "ignoring the damaged checkpoint stopped/checkpoint-900.safetensors: the file is empty\n";
    assert!(stderr.contains(line), "{stderr}");
}

#[test]
fn a_folder_in_place_of_a_file_of_the_run_is_an_error_that_names_it_and_nothing_is_called_restored()
{
    let dir = with_runs();
    for file in [
        "run.toml",
        "config.toml",
        "metrics.csv",
        "train_batch.png",
        "curves.png",
    ] {
        let run = file.replace('.', "-");
        dir.copy_folder("stopped", &run);
        let path = dir.path(&run).join(file);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        let message = dir.fails(1, &["train", "--resume", &run]);
        for part in [
            format!("cannot write {run}/{file}"),
            "a folder has this name\n".to_string(),
            format!("help: rename or remove the folder `{run}/{file}`\n"),
        ] {
            assert!(message.contains(&part), "{part}: {message}");
        }
        assert!(!message.contains("restored"), "{message}");
        fs::remove_dir(&path).unwrap();
        resumes(&dir, &run);
    }
}

#[test]
fn a_checkpoint_with_a_number_that_leaves_none_for_later_ones_is_an_error_with_a_free_name() {
    let dir = with_runs();
    let names = dir.checkpoints("stopped");
    let newest = dir.path("stopped").join(&names[1]);
    for number in [u64::MAX, u64::MAX - 1, 10_u64.pow(16)] {
        let name = format!("checkpoint-{number}.safetensors");
        fs::rename(&newest, dir.path("stopped").join(&name)).unwrap();
        let message = dir.fails(1, &["train", "--resume", "stopped"]);
        let error = format!("error: stopped/{name} has a number above 1000000000000000");
        assert!(message.contains(&error), "{message}");
        let help = format!("help: rename it to `{}`\n", names[1]);
        assert!(message.contains(&help), "{message}");
        fs::rename(dir.path("stopped").join(&name), &newest).unwrap();
    }
    resumes(&dir, "stopped");
}

#[test]
fn a_changed_or_missing_metrics_file_is_restored_with_a_line() {
    let dir = with_runs();
    let metrics = String::from_utf8(dir.read("stopped/metrics.csv")).unwrap();
    let changes: [(&str, Option<String>); 4] = [
        // A killed run may have written a row after its last checkpoint.
        ("later", Some(format!("{metrics}transfer,2,0,0,0,0,0,0\n"))),
        ("missing", None),
        ("edited", Some(metrics.replace("transfer", "finetune"))),
        ("shorter", Some(metrics[..metrics.len() - 3].to_string())),
    ];
    for (run, text) in changes {
        dir.copy_folder("stopped", run);
        let path = format!("{run}/metrics.csv");
        match &text {
            Some(text) => dir.write(&path, text.as_bytes()),
            None => fs::remove_file(dir.path(&path)).unwrap(),
        }
        let (_, stderr) = resumes(&dir, run);
        let restored = stderr.contains("metrics.csv was");
        assert_eq!(restored, run != "later", "{run}: {stderr}");
    }
}

#[test]
fn a_copied_or_linked_run_resumes_to_the_same_bytes() {
    let dir = with_runs();
    dir.copy_folder("stopped", "elsewhere/copy");
    symlink(dir.path("elsewhere"), dir.path("link")).unwrap();
    symlink("link/copy", dir.path("run")).unwrap();
    resumes(&dir, "run");
    assert!(dir.path("run").symlink_metadata().unwrap().is_symlink());
    dir.assert_same_result("elsewhere/copy", "whole");
    // With another name for the data and the weights, twice, and from another folder.
    interrupted_run(&dir, &train("moved"));
    fs::rename(dir.path("data"), dir.path("images")).unwrap();
    fs::rename(
        dir.path("tiny.safetensors"),
        dir.path("weights.safetensors"),
    )
    .unwrap();
    let given = ["--data", "images", "--weights", "weights.safetensors"];
    let resume = [&["train", "--resume", "moved"], &given[..]].concat();
    let events = std::cell::Cell::new(0);
    let run = interrupt(&dir, &resume, &["INT"], &|event| {
        events.set(events.get() + usize::from(event["event"] == "batch"));
        events.get() == 2
    });
    assert_eq!(run.code, Some(130));
    fs::create_dir(dir.path("inner")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_waggle"))
        .args(["train", "--resume", "../moved"])
        .current_dir(dir.path("inner"))
        .output()
        .unwrap();
    assert_eq!(stdout_and_stderr(&output).1, "");
    dir.assert_same_result("moved", "whole");
}

#[test]
fn other_classes_are_an_error_and_the_run_is_kept() {
    let dir = with_runs();
    for split in ["train", "val"] {
        let class = |name: &str| dir.path("data").join(split).join(name);
        fs::rename(class("vertical"), class("diagonal")).unwrap();
    }
    let before = dir.contents("stopped");
    let message = dir.fails(1, &["train", "--resume", "stopped"]);
    assert!(
        message.contains("classes: horizontal, vertical in the run, diagonal, horizontal now\n"),
        "{message}"
    );
    assert_eq!(dir.contents("stopped"), before);
}

#[test]
fn a_run_that_still_trains_cannot_be_resumed() {
    let dir = TestDir::with_stripes();
    let mut child = dir.start(&[&train("run")[..], &["--json"]].concat());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("checkpoint-1")));
    // A stopped process keeps its lock.
    send_signal(&child, "STOP");
    let message = dir.fails(1, &["train", "--resume", "run"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        message.contains("another process is training in run\n"),
        "{message}"
    );
    dir.succeeds(&["train", "--resume", "run"]);
}

#[test]
fn the_run_of_another_user_is_an_error_and_is_kept() {
    let dir = with_runs();
    // Root can write anywhere, so run the program as another user.
    let is_root = fs::metadata(dir.path("")).unwrap().uid() == 0;
    let resume = |run: &str| {
        let mut command = dir.command(&["train", "--resume", run]);
        if is_root {
            command.uid(65534).gid(65534);
        }
        command.output().map(|output| {
            let (stdout, stderr) = stdout_and_stderr(&output);
            (output.status.code(), stdout + &stderr)
        })
    };
    let set_mode = |name: &str, mode| {
        fs::set_permissions(dir.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    set_mode("", 0o755);
    set_mode("stopped", 0o555);
    set_mode("whole", 0o555);
    let before = [dir.contents("stopped"), dir.contents("whole")];
    let Ok((code, output)) = resume("stopped") else {
        println!("skipped: another user cannot run the program");
        return;
    };
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("error: cannot write to the run directory stopped\n"),
        "{output}"
    );
    let (code, output) = resume("whole").unwrap();
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("already finished"), "{output}");
    assert!(before == [dir.contents("stopped"), dir.contents("whole")]);
    // The newest checkpoint cannot be read.
    let newest = format!("stopped/{}", dir.checkpoints("stopped").pop().unwrap());
    set_mode(&newest, 0);
    let (code, output) = resume("stopped").unwrap();
    assert_eq!(code, Some(1), "{output}");
    let expected = format!("error: cannot read {newest}\nCaused by:\n  Permission denied");
    assert!(output.contains(&expected), "{output}");
    set_mode("stopped", 0o755);
    set_mode("whole", 0o755);
}

#[test]
fn a_full_disk_at_any_byte_loses_nothing() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train("whole"));
    let (mut failed, mut resumed) = (0, 0);
    for round in 0..14 {
        let run = format!("run-{round}");
        let output = dir
            .command(&train(&run))
            .env(
                "WAGGLE_FAULT",
                format!("disk-full:{}", 30 * 3u64.pow(round)),
            )
            .output()
            .unwrap();
        let (_, stderr) = stdout_and_stderr(&output);
        if output.status.success() {
            dir.assert_same_result(&run, "whole");
            continue;
        }
        failed += 1;
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no storage space"), "{stderr}");
        if !dir.path(&run).exists() {
            continue;
        }
        let files = dir.files(&run);
        let temporary = files.iter().any(|name| name.starts_with(".waggle"));
        assert!(!temporary, "{files:?}");
        if dir.checkpoints(&run).is_empty() {
            let message = dir.fails(1, &["train", "--resume", &run]);
            assert!(message.contains("has no intact checkpoint"), "{message}");
        } else {
            let help = format!("`waggle train --resume {run}`");
            assert!(stderr.contains(&help), "{stderr}");
            resumed += 1;
            dir.succeeds(&["train", "--resume", &run]);
            dir.assert_same_result(&run, "whole");
        }
    }
    assert!(
        failed > 6 && resumed > 2,
        "{failed} failed, {resumed} resumed"
    );
}

#[test]
fn the_files_of_a_run_and_exports_can_be_read_by_others_as_the_umask_permits() {
    let dir = TestDir::with_stripes();
    for (umask, mode) in [("022", 0o644), ("007", 0o660)] {
        let shell = |arguments: &[&str]| {
            let script = format!("umask {umask} && exec \"$0\" \"$@\"");
            let status = Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_waggle")])
                .args(arguments)
                .current_dir(dir.path(""))
                .output()
                .unwrap()
                .status;
            assert!(status.success(), "{arguments:?}");
        };
        shell(&train(umask));
        for format in ["onnx", "safetensors"] {
            shell(&["export", umask, "--to", format]);
        }
        let show = format!("{umask}/batch.png");
        shell(&["show", "--data", "data", "-o", &show]);
        for name in dir.files(umask) {
            let metadata = fs::metadata(dir.path(umask).join(&name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        }
    }
}

#[test]
fn an_unfinished_run_is_used_with_a_warning() {
    let dir = with_runs();
    let commands = |run: &str| {
        let [model, out] = [format!("{run}/model.safetensors"), format!("{run}-out")];
        [
            vec![
                "predict".to_string(),
                run.to_string(),
                "data/val".to_string(),
            ],
            vec!["predict".to_string(), model, "data/val".to_string()],
            ["evaluate", run, "--data", "data"]
                .map(String::from)
                .to_vec(),
            ["export", run, "--to", "onnx"].map(String::from).to_vec(),
            [
                "train",
                "--data",
                "data",
                "--stage",
                "transfer",
                "--weights",
                run,
                "--out",
                &out,
            ]
            .iter()
            .chain(&["--transfer-epochs", "1"])
            .map(|argument| argument.to_string())
            .collect(),
        ]
    };
    for (run, unfinished) in [("stopped", true), ("whole", false)] {
        for command in commands(run) {
            let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            let output = dir.waggle(&arguments);
            let (_, stderr) = stdout_and_stderr(&output);
            assert!(output.status.success(), "{arguments:?}: {stderr}");
            let warning = "warning: the run stopped is not finished;";
            assert_eq!(
                stderr.contains(warning),
                unfinished,
                "{arguments:?}: {stderr}"
            );
        }
    }
}

#[test]
fn an_existing_folder_is_kept_and_the_new_run_gets_a_number_with_a_line() {
    let dir = TestDir::with_stripes();
    dir.write("thesis/chapter.tex", b"mine");
    symlink("nowhere", dir.path("thesis-2")).unwrap();
    let stdout = dir.succeeds(&train("thesis"));
    assert!(
        stdout.contains("thesis-3 (thesis already exists)"),
        "{stdout}"
    );
    assert_eq!(dir.files("thesis"), ["chapter.tex"]);
    assert!(dir.path("thesis-3/model.safetensors").is_file());
    assert!(!exists(&dir, "nowhere"));
}
