//! `evaluate`, `predict`, `show` and `summary` on a model that `train` wrote.

mod harness;

use std::process::{Command, Stdio};

use harness::{Place, json_lines, texts};

/// A place with a run in `runs/train`.
fn trained() -> Place {
    let place = Place::with_stripes();
    let rates = "features=2e-2,classifier.0=2e-2,classifier.3=2e-2,classifier.6=2e-2";
    place.succeeds(&[
        "train",
        "--data",
        "data",
        "--weights",
        "tiny.safetensors",
        "--stage",
        "finetune",
        "--finetune-epochs",
        "30",
        "--batch-size",
        "4",
        "--finetune-lr",
        rates,
    ]);
    place
}

#[test]
fn evaluate() {
    let place = trained();
    let out = place.succeeds(&["evaluate", "runs/train", "--data", "data", "--json"]);
    assert_eq!(out.lines().count(), 1, "one object: {out}");
    let found = &json_lines(&out)[0];
    assert_eq!(found["classes"], serde_json::json!(["across", "down"]));
    let confusion: Vec<Vec<u64>> = serde_json::from_value(found["confusion"].clone()).unwrap();
    assert_eq!(
        confusion
            .iter()
            .map(|row| row.iter().sum::<u64>())
            .collect::<Vec<_>>(),
        [6, 6]
    );
    let right = (confusion[0][0] + confusion[1][1]) as f64;
    assert_eq!(found["accuracy"].as_f64().unwrap(), right / 12.0);

    // The best epoch's row of the last stage says the same.
    let metrics = String::from_utf8(place.read("runs/train/metrics.csv")).unwrap();
    let best = metrics
        .lines()
        .filter(|line| line.starts_with("finetune"))
        .map(|line| {
            line.split(',')
                .skip(4)
                .take(2)
                .map(|field| field.parse().unwrap())
                .collect::<Vec<f64>>()
        })
        .reduce(|best, row| if row[1] > best[1] { row } else { best })
        .unwrap();
    let loss = found["loss"].as_f64().unwrap();
    assert!(
        (loss - best[0]).abs() < 1e-6 && found["accuracy"] == best[1],
        "{found} {best:?}"
    );

    // The run knows its data; the file alone is a model too; splits have names.
    assert_eq!(place.succeeds(&["evaluate", "runs/train", "--json"]), out);
    assert_eq!(
        place.succeeds(&[
            "evaluate",
            "runs/train/model.safetensors",
            "--json",
            "--data",
            "data"
        ]),
        out
    );
    let train = place.succeeds(&["evaluate", "runs/train", "--split", "train", "--json"]);
    let confusion = &json_lines(&train)[0]["confusion"];
    assert_eq!(
        confusion[0][0].as_u64().unwrap() + confusion[0][1].as_u64().unwrap(),
        12
    );

    let people = place.succeeds(&["evaluate", "runs/train"]);
    for part in ["Loss", "Acc", "across", "down"] {
        assert!(people.contains(part), "{part}: {people}");
    }
    place.fails(1, &["evaluate", "runs/train", "--split", "test"]);
}

#[test]
fn predict() {
    let place = trained();
    for (class, name) in ["across", "down"].iter().enumerate() {
        for number in 20..24 {
            place.picture(&format!("new/{name}/{number}.png"), class, number);
        }
    }
    place.write("new/notes.txt", b"not a picture, and not asked for");
    let out = place.succeeds(&[
        "predict",
        "runs/train",
        "new",
        "--json",
        "--top-k",
        "2",
        "--batch-size",
        "3",
    ]);
    let found = json_lines(&out);
    assert_eq!(found.len(), 8);
    for one in &found {
        let path = one["path"].as_str().unwrap();
        assert_eq!(
            path.split('/').nth(1),
            one["class"].as_str(),
            "this net tells stripes apart: {one}"
        );
        let top = one["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[0]["class"], one["class"]);
        assert_eq!(top[0]["probability"], one["probability"]);
        let sum: f64 = top
            .iter()
            .map(|entry| entry["probability"].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-5, "{one}");
    }
    let paths: Vec<&str> = found
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    assert!(paths.is_sorted(), "{paths:?}");

    let csv = place.succeeds(&["predict", "runs/train", "new", "--csv"]);
    assert_eq!(csv.lines().next(), Some("path,class,probability"));
    assert_eq!(csv.lines().count(), 9);
    let people = place.succeeds(&["predict", "runs/train", "new/down/20.png", "new/across"]);
    assert_eq!(people.lines().count(), 5);
    assert!(
        people
            .lines()
            .next()
            .unwrap()
            .starts_with("new/down/20.png"),
        "in the order given: {people}"
    );
    // One picture at a time or many: the same numbers.
    let one_by_one = json_lines(&place.succeeds(&[
        "predict",
        "runs/train",
        "new",
        "--json",
        "--top-k",
        "2",
        "--batch-size",
        "1",
    ]));
    for (a, b) in found.iter().zip(&one_by_one) {
        let difference = a["probability"].as_f64().unwrap() - b["probability"].as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_bad_picture_does_not_stop_the_others() {
    let place = trained();
    place.picture("new/a.png", 0, 1);
    place.write("new/b.png", b"broken");
    place.picture("new/c.png", 1, 2);
    let output = place.waggle(&["predict", "runs/train", "new", "missing.png", "--json"]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let told = json_lines(&out);
    let paths: Vec<&str> = told
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    let asked = ["new/a.png", "new/b.png", "new/c.png", "missing.png"];
    assert_eq!(paths, asked, "an object for each picture, in order");
    for (one, is_good) in told.iter().zip([true, false, true, false]) {
        assert_eq!(one["class"].is_string(), is_good, "{one}");
        assert_eq!(one["error"].is_string(), !is_good, "{one}");
    }
    let why = told[1]["error"].as_str().unwrap();
    assert!(why.contains("is not a picture"), "{why}");
    assert!(
        err.contains("new/b.png") && err.contains("missing.png"),
        "{err}"
    );
    // Without --json the same pictures, exit code and errors.
    let output = place.waggle(&["predict", "runs/train", "new", "missing.png"]);
    assert_eq!(output.status.code(), Some(1));
    let (out, same) = texts(&output);
    assert_eq!((out.lines().count(), same), (2, err), "{out}");
    std::fs::create_dir(place.path("none")).unwrap();
    assert!(
        place
            .fails(1, &["predict", "runs/train", "none"])
            .contains("none")
    );
}

#[test]
fn nobody_reads_to_the_end() {
    let place = trained();
    for number in 0..40 {
        place.picture(&format!("new/{number:02}.png"), number % 2, number);
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_waggle"))
        .args(["predict", "runs/train", "new", "--batch-size", "1"])
        .current_dir(place.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(texts(&output).1, "", "quiet");
    assert!(output.status.success());
}

#[test]
fn show() {
    let place = Place::with_stripes();
    place.succeeds(&[
        "show",
        "--data",
        "data",
        "--batch-size",
        "5",
        "--input-size",
        "64",
    ]);
    let picture = image::load_from_memory(&place.read("train_batch.png")).unwrap();
    assert!(
        picture.width() >= 64 * 5 || picture.height() >= 64,
        "{}x{}",
        picture.width(),
        picture.height()
    );
    // What is there stays, unless it may go.
    let message = place.fails(1, &["show", "--data", "data"]);
    for part in ["train_batch.png exists already", "--overwrite", "-o FILE"] {
        assert!(message.contains(part), "{message}");
    }
    place.write("old.png", b"old");
    place.succeeds(&["show", "--data", "data", "-o", "old.png", "--overwrite"]);
    assert_ne!(place.read("old.png"), b"old");
    // Another epoch, other cuts; the same epoch, the same picture.
    for (name, epoch) in [("again.png", "2"), ("other.png", "3")] {
        place.succeeds(&[
            "show",
            "--data",
            "data",
            "--batch-size",
            "5",
            "--input-size",
            "64",
            "-o",
            name,
            "--epoch",
            epoch,
        ]);
    }
    assert_eq!(place.read("again.png"), place.read("train_batch.png"));
    assert_ne!(place.read("other.png"), place.read("train_batch.png"));
}

#[test]
fn summary() {
    let place = Place::new();
    let out = place.succeeds(&["summary"]);
    assert!(
        out.contains("138,357,544") || out.contains("138357544"),
        "{out}"
    );
    assert!(
        out.contains("(classifier)") && out.contains("Linear("),
        "{out}"
    );
    let out = place.succeeds(&["summary", "--arch", "vgg11", "--classes", "2"]);
    // torchvision's vgg11 has 132,863,336 parameters with 1000 classes; 998 rows of 4096 weights and a bias less.
    assert!(
        out.contains("128,774,530") || out.contains("128774530"),
        "{out}"
    );
}
