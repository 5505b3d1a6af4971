//! `waggle train` on a fresh machine: no photographs, no weights, no network. The sample does it all.

mod harness;

use harness::{Place, json_lines};

fn events<'a>(events: &'a [serde_json::Value], kind: &str) -> Vec<&'a serde_json::Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

#[test]
fn the_main_job_needs_nothing() {
    let place = Place::new();
    let run = [
        "train",
        "--json",
        "--transfer-epochs",
        "4",
        "--finetune-epochs",
        "2",
    ];
    let told = json_lines(&place.succeeds(&run));

    let data = events(&told, "data")[0];
    assert_eq!(data["source"], "sample");
    let hint = data["hint"].as_str().expect("how to get photographs");
    assert!(
        hint.contains("cargo xtask fetch-data") && hint.contains("--data"),
        "{hint}"
    );
    assert!(place.path("data/sample/train/ants/000.png").is_file());

    // The backbone brings everything but the last layer, and that is what the first stage trains.
    let weights = events(&told, "weights")[0];
    assert_eq!(
        weights["fresh"],
        serde_json::json!(["classifier.6.weight", "classifier.6.bias"])
    );
    let stages = events(&told, "stage_start");
    assert_eq!(
        stages[0]["groups"],
        serde_json::json!([{ "layers": "classifier.6", "rate": 1e-3 }])
    );
    assert_eq!(stages[1]["frozen_parameters"], 0);
    let losses: Vec<f64> = events(&told, "phase")
        .iter()
        .filter(|event| event["phase"] == "val")
        .map(|event| event["loss"].as_f64().expect("a loss"))
        .collect();
    assert!(losses[3] < losses[0], "a few steps help: {losses:?}");

    // The model knows what it is and the run knows its data.
    let found = json_lines(&place.succeeds(&["evaluate", "runs/train", "--json"]));
    assert_eq!(found[0]["classes"], serde_json::json!(["ants", "bees"]));
    let done = events(&told, "done")[0];
    assert_eq!(done["accuracy"], found[0]["accuracy"]);
    let line = place.succeeds(&["predict", "runs/train", "data/sample/val/bees/000.png"]);
    assert!(line.starts_with("data/sample/val/bees/000.png: "), "{line}");
}

#[test]
fn from_random_weights_it_is_the_same_network_and_everything_is_fresh() {
    let place = Place::new();
    let told = json_lines(&place.succeeds(&[
        "train",
        "--json",
        "--weights",
        "none",
        "--stage",
        "transfer",
        "--transfer-epochs",
        "1",
    ]));
    let weights = events(&told, "weights")[0];
    assert_eq!(weights["loaded"], serde_json::json!([]));
    assert_eq!(weights["fresh"].as_array().expect("names").len(), 32);
    assert_eq!(events(&told, "stage_start")[0]["frozen_parameters"], 0);
    let pictures = image::load_from_memory(&place.read("runs/train/train_batch.png"))
        .expect("a picture")
        .width();
    assert_eq!(
        pictures,
        8 * (64 + 8) + 8,
        "eight pictures of 64 pixels in a row"
    );
}
