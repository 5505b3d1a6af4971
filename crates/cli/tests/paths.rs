//! Paths that are unusual: on standard input, not valid Unicode, with newlines and quotation marks.

#![cfg(unix)]

mod harness;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use harness::{TestDir, json_lines, stdout_and_stderr, train_args};

/// A directory with a data set, weights, and the model `runs/train`, which is its baseline.
fn trained() -> TestDir {
    let dir = TestDir::with_stripes();
    dir.succeeds(&baseline(&[]));
    dir
}

/// Arguments for a run of the two baselines.
fn baseline<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(["1", "1"], "8", &[more])
}

/// Copies the image `data/val/vertical/00.png` to the path `name`, which need not be valid Unicode.
fn copy(dir: &TestDir, name: &[u8]) {
    let path = dir.path(".").join(OsStr::from_bytes(name));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(dir.path("data/val/vertical/00.png"), path).unwrap();
}

#[test]
fn predict_reads_paths_from_standard_input() {
    let dir = trained();
    let image = "data/val/vertical/00.png";
    let list = format!("\n{image}\n\ndata/val/horizontal\nmissing.png");
    let output = dir.with_input(&["predict", "runs/train", "-", image], list.as_bytes());
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    // The image, six images of the folder, and the image among the arguments.
    assert_eq!(out.lines().count(), 8, "{out}");
    assert!(out.lines().next().unwrap().starts_with(image), "{out}");
    assert_eq!(err.matches("error:").count(), 1, "{err}");
    assert!(err.contains("missing.png"), "{err}");
}

#[test]
fn predict_with_0_reads_paths_separated_by_nul() {
    let dir = trained();
    copy(&dir, b"two\nlines.png");
    let list = b"two\nlines.png\0\0data/val/vertical/01.png";
    for paths in [&["-0"][..], &["-0", "-"], &["-", "--null"]] {
        let arguments = [&["predict", "runs/train", "--json"], paths].concat();
        let output = dir.with_input(&arguments, list);
        let (out, err) = stdout_and_stderr(&output);
        assert!(output.status.success(), "{err}");
        let lines = json_lines(&out);
        let paths: Vec<_> = lines
            .iter()
            .map(|line| line["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["two\nlines.png", "data/val/vertical/01.png"]);
    }
}

#[test]
fn standard_input_without_usable_paths_is_an_error() {
    let dir = trained();
    let huge = vec![b'x'; 1 << 20];
    let good = b"data/val/vertical/00.png\n";
    for (arguments, input, message) in [
        (["-"], &b""[..], "no paths on standard input"),
        (["-"], b"\n\n", "no paths on standard input"),
        (["-0"], b"\0", "no paths on standard input"),
        (
            ["-"],
            &huge,
            "line 1 of standard input is longer than any path",
        ),
        (
            ["-0"],
            &huge,
            "path 1 of standard input is longer than any path",
        ),
        (
            ["-"],
            b"a.png\0b.png\0",
            "line 1 of standard input contains a NUL byte",
        ),
    ] {
        let arguments = [&["predict", "runs/train"], &arguments[..]].concat();
        let output = dir.with_input(&arguments, input);
        let (out, err) = stdout_and_stderr(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.starts_with(&format!("error: {message}\nhelp: ")),
            "{err}"
        );
    }
    // The paths before a bad line are classified.
    let input = [&good[..], &huge].concat();
    let output = dir.with_input(&["predict", "runs/train", "-"], &input);
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(out.lines().count(), 1, "{err}");
    assert!(err.starts_with("error: line 2 of standard input"), "{err}");
}

#[test]
fn predictions_as_csv_keep_the_bytes_of_every_path() {
    let dir = trained();
    let names: [&[u8]; 6] = [
        b"new/caf\xe9.png",
        b"new/comma, \"quotes\".png",
        b"new/line\nbreak.png",
        b"new/return\r.png",
        "new/🐝.png".as_bytes(),
        b"new/\xff\xfe/x.png",
    ];
    for name in names {
        copy(&dir, name);
    }
    let paths = |csv: &[u8]| -> BTreeSet<Vec<u8>> {
        let mut csv = csv::Reader::from_reader(csv);
        let records = csv.byte_records().map(Result::unwrap);
        records.map(|record| record[0].to_vec()).collect()
    };
    let output = dir.waggle(&["predict", "runs/train", "new", "--csv", "--top-k", "2"]);
    assert!(output.status.success());
    assert_eq!(paths(&output.stdout), names.map(<[u8]>::to_vec).into());

    // The paths in the file of `evaluate` are relative to the data set.
    for name in names {
        copy(&dir, &[b"data/val/vertical/", name].concat());
    }
    dir.succeeds(&["evaluate", "runs/train", "--predictions", "p.csv"]);
    let paths = paths(&dir.read("p.csv"));
    assert_eq!(paths.len(), 12 + names.len());
    for name in names {
        assert!(paths.contains(&[b"val/vertical/", name].concat()));
    }
}

#[test]
fn predictions_as_json_have_paths_that_can_be_restored() {
    let dir = trained();
    let names: [&[u8]; 4] = [
        b"new/caf\xe9.png",
        b"new/caf\xe8.png",
        "new/caf\u{fffd}.png".as_bytes(),
        b"\"new\".png",
    ];
    for name in names {
        copy(&dir, name);
    }
    let bad = dir.path("new").join(OsStr::from_bytes(b"bad\xff.png"));
    std::fs::write(bad, b"no image").unwrap();
    let output = dir.waggle(&["predict", "runs/train", "\"new\".png", "new", "--json"]);
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    let texts: Vec<_> = lines
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            r#""\"new\".png""#,
            r#""new/bad\377.png""#,
            r#""new/caf\350.png""#,
            r#""new/caf\351.png""#,
            "new/caf\u{fffd}.png",
        ]
    );
    let restored = dataset::path_text::decode(texts[3]);
    assert_eq!(restored.as_os_str().as_bytes(), b"new/caf\xe9.png");
}

#[test]
fn a_name_that_is_not_unicode_is_trained_on_skipped_and_resumed_under_its_own_bytes() {
    let dir = TestDir::with_stripes();
    for name in [
        &b"data/train/vertical/caf\xe8.png"[..],
        b"data/train/vertical/caf\xe9.png",
    ] {
        copy(&dir, name);
    }
    let bad = dir
        .path("data/train/horizontal")
        .join(OsStr::from_bytes(b"bad\xe9.png"));
    std::fs::write(bad, b"no image").unwrap();
    let events = json_lines(&dir.succeeds(&baseline(&["--on-bad", "skip", "--json"])));
    let skipped = events
        .iter()
        .find(|event| event["event"] == "skipped_image");
    assert_eq!(
        skipped.unwrap()["path"],
        r#""train/horizontal/bad\351.png""#
    );
    let report =
        json_lines(&dir.succeeds(&["evaluate", "runs/train", "--split", "train", "--json"]));
    assert_eq!(
        report[0]["skipped"][0]["path"],
        r#""train/horizontal/bad\351.png""#
    );
    let output = dir.waggle(&["check", "data", "--json"]);
    let report = &json_lines(std::str::from_utf8(&output.stdout).unwrap())[0];
    assert_eq!(
        report["unusable"][0]["path"],
        r#""train/horizontal/bad\351.png""#
    );
}

#[test]
fn a_data_folder_that_is_not_unicode_is_found_again_by_evaluate() {
    let dir = TestDir::with_stripes();
    let folder = dir.path(".").join(OsStr::from_bytes(b"data\xff"));
    std::fs::rename(dir.path("data"), &folder).unwrap();
    let mut arguments: Vec<&OsStr> = baseline(&[]).into_iter().map(OsStr::new).collect();
    arguments[2] = folder.as_os_str();
    let output = dir.command(&[]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    dir.succeeds(&["evaluate", "runs/train"]);
}

#[test]
fn weights_in_a_folder_that_is_not_unicode_keep_their_bytes_in_the_configuration() {
    let dir = TestDir::with_stripes();
    let folder = dir.path("").canonicalize().unwrap();
    let folder = folder.join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder).unwrap();
    for name in ["data", "tiny.safetensors"] {
        std::fs::rename(dir.path(name), folder.join(name)).unwrap();
    }
    let arguments = baseline(&["--json"]);
    let output = dir.command(&arguments).current_dir(&folder).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    let weights = folder.join("tiny.safetensors");
    let config = std::fs::read_to_string(folder.join("runs/train/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let recorded = config["network"]["weights"].as_str().unwrap();
    assert_eq!(dataset::path_text::decode(recorded), weights);
}

#[test]
fn files_that_are_not_part_of_a_run_keep_the_bytes_of_their_names() {
    let dir = TestDir::with_stripes();
    harness::interrupted_run(&dir, &train_args(["20", "1"], "4", &[]));
    let name = OsStr::from_bytes(b"caf\xe9\n");
    std::fs::write(dir.path("runs/train").join(name), b"").unwrap();
    let events = dir.succeeds(&["train", "--resume", "runs/train", "--json"]);
    let events = json_lines(&events);
    let other = events.iter().find(|event| event["event"] == "other_files");
    assert_eq!(other.unwrap()["files"][0], "\"caf\\351\n\"");
}

#[test]
fn a_run_directory_that_is_not_unicode_keeps_its_bytes_in_events_and_with_quiet() {
    let dir = TestDir::with_stripes();
    let name = OsStr::from_bytes(b"run\xff");
    let train = |more: &[&str]| {
        let arguments = baseline(more);
        let output = dir.command(&arguments).arg("--out").arg(name).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{:?}", output.stderr);
        output.stdout
    };
    assert_eq!(train(&["--quiet"]), b"run\xff\n");
    let events = json_lines(std::str::from_utf8(&train(&["--json"])).unwrap());
    let run = events.iter().find(|event| event["event"] == "run").unwrap();
    assert_eq!(run["directory"], r#""run\377-2""#);
    assert_eq!(run["existing"], r#""run\377""#);
    let done = events
        .iter()
        .find(|event| event["event"] == "done")
        .unwrap();
    assert_eq!(done["model"], r#""run\377-2/model.safetensors""#);
    let text = String::from_utf8(train(&[])).unwrap();
    let command = "\nNext     waggle predict $'run\\377-3' IMAGE...\n";
    assert!(text.contains(command), "{text}");
}

#[test]
fn predictions_as_text_in_a_pipe_keep_the_bytes_of_every_path() {
    let dir = trained();
    copy(&dir, b"new/caf\xe9.png");
    let output = dir.waggle(&["predict", "runs/train", "new"]);
    assert!(output.stdout.starts_with(b"new/caf\xe9.png: "));
}
