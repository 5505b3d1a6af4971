//! Tests of `labels` on data sets with wrong labels.

mod harness;

use std::fs;

use harness::{TestDir, json_lines, stdout_and_stderr};
use serde_json::Value;

/// A directory with the data set `data`: two classes of stripes with 30 train images each, of which the
/// images in [`WRONG`] are in the folder of the other class.
fn with_wrong_labels() -> TestDir {
    let dir = TestDir::new();
    dir.stripes("data", &["horizontal", "vertical"], 30, 4);
    dir.tiny_weights("tiny.safetensors", 10);
    for (path, class) in WRONG {
        dir.image(path, class, 40);
    }
    dir
}

/// Paths of wrongly labeled images, with the index of their true class.
const WRONG: [(&str, usize); 2] = [
    ("data/train/horizontal/wrong.png", 1),
    ("data/train/vertical/wrong.png", 0),
];

/// Trains only the head, in `runs/train`.
fn train(dir: &TestDir, more: &[&str]) {
    let train = "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    let train: Vec<&str> = train.split(' ').chain(more.iter().copied()).collect();
    dir.succeeds(&train);
}

fn images(issues: &Value) -> Vec<Value> {
    issues["images"].as_array().unwrap().clone()
}

#[test]
fn images_in_the_wrong_folder_are_the_first_suspects() {
    let dir = with_wrong_labels();
    let labels = ["labels", "tiny.safetensors", "--data", "data"];
    let json = dir.succeeds(&[&labels[..], &["--json"]].concat());
    let issues = &json_lines(&json)[0];
    let images = images(issues);
    assert_eq!(images.len(), 62);
    assert_eq!(issues["suspected"], 2, "{json}");
    assert_eq!(
        issues["classes"],
        serde_json::json!(["horizontal", "vertical"])
    );
    assert_eq!(issues["unjudged_classes"], serde_json::json!([]));
    assert!(issues["accuracy"].as_f64().unwrap() > 0.9, "{json}");
    let mut paths: Vec<_> = images[..2]
        .iter()
        .map(|image| image["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        ["train/horizontal/wrong.png", "train/vertical/wrong.png"]
    );
    for image in &images[..2] {
        let path = image["path"].as_str().unwrap();
        assert_eq!(image["label"], path.split('/').nth(1).unwrap());
        assert_ne!(image["suggested"], image["label"], "{image}");
        assert!(image["self_confidence"].as_f64().unwrap() < 0.5, "{image}");
        assert!(
            image["normalized_margin"].as_f64().unwrap() < 0.5,
            "{image}"
        );
        assert!(image["prune_by_noise_rate"] == true || image["confident_learning"] == true);
    }
    let confidence = |image: &Value| image["self_confidence"].as_f64().unwrap();
    for pair in images[2..].windows(2) {
        assert!(confidence(&pair[0]) <= confidence(&pair[1]), "{pair:?}");
        assert_eq!(pair[1]["prune_by_noise_rate"], false);
    }

    let text = dir.succeeds(&labels);
    assert!(
        text.contains("Suspected label errors: 2 of 62 train images"),
        "{text}"
    );
    for (path, _) in WRONG {
        let path = path.strip_prefix("data/").unwrap();
        assert!(text.contains(path), "{path}: {text}");
    }
    assert!(!text.contains("00.png"), "{text}");
}

#[test]
fn csv_has_a_line_for_each_image_in_the_order_of_the_json() {
    let dir = with_wrong_labels();
    let labels = ["labels", "tiny.safetensors", "--data", "data"];
    let csv = dir.succeeds(&[&labels[..], &["--csv"]].concat());
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let json = dir.succeeds(&[&labels[..], &["--json"]].concat());
    let images = images(&json_lines(&json)[0]);
    assert_eq!(rows.len(), images.len());
    for (row, image) in rows.iter().zip(&images) {
        for (name, field) in header.iter().zip(row) {
            match &image[name] {
                Value::String(text) => assert_eq!(field, text),
                Value::Number(number) => {
                    assert_eq!(field, format!("{:.6}", number.as_f64().unwrap()));
                }
                other => assert_eq!(field, other.to_string(), "{name}"),
            }
        }
    }
}

#[test]
fn a_run_is_judged_on_its_data_set_with_the_same_result_for_any_number_of_workers() {
    let dir = with_wrong_labels();
    train(&dir, &[]);
    let parse = |text: String| json_lines(&text)[0].clone();
    let run = parse(dir.succeeds(&["labels", "runs/train", "--json"]));
    // Only the head was trained, so the backbone is that of the weights.
    let weights = [
        "labels",
        "tiny.safetensors",
        "--data",
        "data",
        "--json",
        "--workers",
        "1",
    ];
    let weights = parse(dir.succeeds(&weights));
    assert_eq!(images(&run), images(&weights));
    let other = parse(dir.succeeds(&["labels", "runs/train", "--json", "--seed", "5"]));
    assert_ne!(images(&run), images(&other), "the seed changes the folds");
    let data = dir.path("data").canonicalize().unwrap();
    assert_eq!(run["data"], data.to_str().unwrap());
    let unmoved = dir.path("moved");
    fs::rename(dir.path("data"), &unmoved).unwrap();
    assert!(
        dir.fails(1, &["labels", "runs/train"])
            .contains("pass its new location with `--data DIR`")
    );
}

#[test]
fn a_copy_of_a_wrongly_labeled_image_does_not_hide_it() {
    let dir = with_wrong_labels();
    // A head that is trained on the copies would learn their label.
    for (path, class) in WRONG {
        for number in 0..5 {
            dir.image(
                &path.replace("wrong", &format!("wrong_{number}")),
                class,
                40,
            );
        }
    }
    let json = dir.succeeds(&["labels", "tiny.safetensors", "--data", "data", "--json"]);
    let images = images(&json_lines(&json)[0]);
    assert_eq!(images.len(), 72);
    for image in &images[..12] {
        assert!(
            image["path"].as_str().unwrap().contains("/wrong"),
            "{image}"
        );
        assert_ne!(image["suggested"], image["label"], "{image}");
    }
}

#[test]
fn images_of_a_class_with_a_single_image_are_not_judged() {
    let dir = with_wrong_labels();
    dir.image("data/train/diagonal/0.png", 2, 0);
    let output = dir.waggle(&["labels", "tiny.safetensors", "--data", "data", "--json"]);
    let (stdout, stderr) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("without two different images: diagonal"),
        "{stderr}"
    );
    let issues = &json_lines(&stdout)[0];
    assert_eq!(issues["unjudged_classes"], serde_json::json!(["diagonal"]));
    assert_eq!(images(issues).len(), 62);
}

#[test]
fn images_that_the_run_skipped_are_skipped_again() {
    let dir = with_wrong_labels();
    dir.write("data/train/vertical/bad.png", b"not an image");
    train(&dir, &["--on-bad", "skip"]);
    let json = dir.succeeds(&["labels", "runs/train", "--json"]);
    assert_eq!(images(&json_lines(&json)[0]).len(), 62);
    let fail = ["labels", "runs/train", "--on-bad", "fail"];
    assert!(dir.fails(1, &fail).contains("train/vertical/bad.png"));
    let other = [
        "labels",
        "tiny.safetensors",
        "--data",
        "data",
        "--on-bad",
        "skip",
        "--json",
    ];
    assert_eq!(images(&json_lines(&dir.succeeds(&other))[0]).len(), 62);
}
