//! `waggle train` with the built-in sample and backbone, or with the sample and random weights.

mod harness;

use harness::{TestDir, json_lines};
use serde_json::json;

fn events<'a>(events: &'a [serde_json::Value], kind: &str) -> Vec<&'a serde_json::Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

#[test]
fn training_works_without_data_and_weights() {
    let dir = TestDir::new();
    let run = [
        "train",
        "--json",
        "--transfer-epochs",
        "4",
        "--finetune-epochs",
        "2",
    ];
    let output = json_lines(&dir.succeeds(&run));

    let data = events(&output, "data")[0];
    assert_eq!(data["source"], "sample");
    let hint = data["hint"].as_str().expect("the hint is a string");
    assert!(hint.contains("--data"), "{hint}");
    let given = [
        "--data",
        "sample",
        "--transfer-epochs",
        "1",
        "--stage",
        "transfer",
    ];
    let given = json_lines(&dir.succeeds(&[&["train", "--json"][..], &given].concat()));
    assert_eq!(events(&given, "data")[0]["hint"], json!(null));
    assert!(dir.path("data/sample/train/ants/000.png").is_file());

    // All layers but the last are loaded from the backbone. The transfer stage trains the last.
    let weights = events(&output, "weights")[0];
    assert_eq!(
        weights["initialized"],
        serde_json::json!(["classifier.6.weight", "classifier.6.bias"])
    );
    let stages = events(&output, "stage_start");
    assert_eq!(
        stages[0]["groups"],
        serde_json::json!([{ "layers": "classifier.6", "lr": 1e-3 }])
    );
    assert_eq!(stages[1]["frozen_parameters"], 0);
    let losses: Vec<f64> = events(&output, "phase")
        .iter()
        .filter(|event| event["phase"] == "val")
        .map(|event| event["loss"].as_f64().expect("the loss is a number"))
        .collect();
    assert!(
        losses[3] < losses[0],
        "training reduces the val loss: {losses:?}"
    );

    // The model file contains the classes, and `config.toml` the path of the data set.
    let report = json_lines(&dir.succeeds(&["evaluate", "runs/train", "--json"]));
    assert_eq!(report[0]["classes"], serde_json::json!(["ants", "bees"]));
    let done = events(&output, "done")[0];
    assert_eq!(done["accuracy"], report[0]["accuracy"]);
    let line = dir.succeeds(&["predict", "runs/train", "data/sample/val/bees/000.png"]);
    assert!(line.starts_with("data/sample/val/bees/000.png: "), "{line}");
}

#[test]
fn without_weights_all_layers_of_the_same_network_are_newly_initialized() {
    let dir = TestDir::new();
    let output = json_lines(&dir.succeeds(&[
        "train",
        "--json",
        "--weights",
        "none",
        "--stage",
        "transfer",
        "--transfer-epochs",
        "1",
    ]));
    let weights = events(&output, "weights")[0];
    assert_eq!(weights["loaded"], serde_json::json!([]));
    assert_eq!(weights["initialized"].as_array().expect("names").len(), 32);
    assert_eq!(events(&output, "stage_start")[0]["frozen_parameters"], 0);
    let width = image::load_from_memory(&dir.read("runs/train/train_batch.png"))
        .expect("the file is a PNG")
        .width();
    assert_eq!(width, 8 * (64 + 8) + 8, "eight images of 64 px per row");
}
