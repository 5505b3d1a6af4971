//! Tests of calibration: the temperature that `train` fits, and the probabilities of `predict`.

mod harness;

use std::collections::HashMap;

use harness::{TestDir, json_lines};
use safetensors::SafeTensors;
use serde_json::Value;

/// Arguments of a run whose model makes mistakes on val: its features are random, and only the head
/// trains.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    harness::train_args(
        ["4", "1"],
        "8",
        &[&["--stage", "transfer", "--lr", "1e-2"], more],
    )
}

/// A directory with a data set of three classes with 40 val images each.
fn with_three_classes() -> TestDir {
    let dir = TestDir::with_stripes();
    dir.stripes("data", &["horizontal", "vertical", "wide"], 12, 40);
    dir
}

/// The metadata of a model.
fn metadata(dir: &TestDir, model: &str) -> HashMap<String, String> {
    let bytes = dir.read(model);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().clone().expect("a model has metadata")
}

/// The path, the class, and the probabilities by class, of a line of `predict --json`.
type Prediction = (String, String, HashMap<String, f64>);

fn predictions(dir: &TestDir, run: &str, more: &[&str]) -> Vec<Prediction> {
    let arguments = [
        &["predict", run, "data/val", "--json", "--top-k", "3"],
        more,
    ]
    .concat();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let lines = json_lines(&dir.succeeds(&arguments)).into_iter();
    lines
        .map(|line| {
            let top = line["top"].as_array().unwrap().iter();
            let top = top.map(|guess| {
                let probability = guess["probability"].as_f64().unwrap();
                (text(&guess["class"]), probability)
            });
            (text(&line["path"]), text(&line["class"]), top.collect())
        })
        .collect()
}

#[test]
fn training_calibrates_the_probabilities_and_nothing_else() {
    let dir = with_three_classes();
    let events = json_lines(&dir.succeeds(&train(&["--json"])));
    let calibration = &events.last().unwrap()["calibration"];
    let temperature = calibration["temperature"].as_f64().unwrap();
    assert!((0.05..=20.0).contains(&temperature) && temperature != 1.0);
    for field in ["log_loss", "calibrated_log_loss", "ece", "calibrated_ece"] {
        assert!(calibration["effect"][field].as_f64().unwrap() > 0.0);
    }
    dir.succeeds(&train(&["--no-calibration", "--out", "runs/without"]));

    // Only the metadata differs.
    let [with, without] =
        ["runs/train", "runs/without"].map(|run| format!("{run}/model.safetensors"));
    let mut strings = metadata(&dir, &with);
    let stored: f64 = strings.remove("temperature").unwrap().parse().unwrap();
    assert_eq!(stored, temperature);
    assert_eq!(strings, metadata(&dir, &without));
    let (with, without) = (dir.read(&with), dir.read(&without));
    let [with, without] = [&with, &without].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(with.len(), without.len());
    for (name, tensor) in with.iter() {
        assert!(
            tensor.data() == without.tensor(name).unwrap().data(),
            "{name}"
        );
    }

    // p(T) is proportional to p(1)^(1/T).
    let calibrated = predictions(&dir, "runs/train", &[]);
    let plain = predictions(&dir, "runs/without", &[]);
    assert_eq!(calibrated.len(), 120);
    for ((path, class, after), (_, same, before)) in calibrated.iter().zip(&plain) {
        assert_eq!(class, same, "{path}");
        let sum: f64 = before.values().map(|p| p.powf(1.0 / temperature)).sum();
        for (class, probability) in after {
            let expected = before[class].powf(1.0 / temperature) / sum;
            assert!(
                (probability - expected).abs() < 1e-4,
                "{path}: {class} {probability} {expected}"
            );
        }
    }

    // `evaluate` reports the loss before calibration, and the log loss after it.
    let evaluate = |run: &str| json_lines(&dir.succeeds(&["evaluate", run, "--json"])).remove(0);
    let (report, without) = (evaluate("runs/train"), evaluate("runs/without"));
    assert_eq!(report["temperature"], temperature);
    assert_eq!(without["temperature"], 1.0);
    for name in ["loss", "accuracy"] {
        assert_eq!(report[name], without[name], "{name}");
    }
    assert_eq!(without["log_loss"], without["loss"]);
    let losses = calibrated.iter().map(|(path, _, probabilities)| {
        let class = path.split('/').nth(2).unwrap();
        -probabilities[class].ln()
    });
    let mean = losses.sum::<f64>() / 120.0;
    let log_loss = report["log_loss"].as_f64().unwrap();
    assert!((log_loss - mean).abs() < 1e-4, "{mean}: {report}");
    assert!(log_loss < report["loss"].as_f64().unwrap(), "{report}");

    // The temperature minimizes the log loss over the val images.
    let loss = |factor: f64| -> f64 {
        let image = |(path, _, probabilities): &Prediction| {
            let scaled = |p: f64| p.powf(1.0 / (factor * temperature));
            let sum: f64 = probabilities.values().copied().map(scaled).sum();
            let class = path.split('/').nth(2).unwrap();
            -(scaled(probabilities[class]) / sum).ln()
        };
        plain.iter().map(image).sum()
    };
    if temperature < 20.0 {
        assert!(loss(1.0) < loss(0.95) && loss(1.0) < loss(1.05));
    }
}

#[test]
fn training_says_if_there_are_too_few_val_images_to_tell_whether_calibration_helps() {
    let dir = TestDir::with_stripes();
    let out = dir.succeeds(&train(&[]));
    let end = &out[out.find("\nAccuracy ").unwrap()..];
    let line = end.lines().nth(2).unwrap();
    // The reason depends on whether all val images are classified correctly.
    let expected = match end.starts_with("\nAccuracy 100.0 %") {
        true => {
            "not calibrated: no or too few val images are classified incorrectly (the fit reaches the smallest \
                 temperature, 0.05)"
        }
        false => "; too few val images (12) to tell whether that helps",
    };
    assert!(line.contains(expected), "{end}");
    let out = dir.succeeds(&train(&["--no-calibration"]));
    assert!(!out.contains("calibrated"), "{out}");
    let config = String::from_utf8(dir.read("runs/train-2/config.toml")).unwrap();
    assert!(config.contains("\ncalibration = false\n"), "{config}");
}

#[test]
fn predict_answers_unknown_below_the_minimum_probability() {
    let dir = with_three_classes();
    dir.succeeds(&train(&[]));
    let all = predictions(&dir, "runs/train", &[]);
    let largest =
        |probabilities: &HashMap<String, f64>| probabilities.values().copied().fold(0.0, f64::max);
    // Half of the images reach the median of the largest probabilities.
    let mut sorted: Vec<f64> = all
        .iter()
        .map(|(.., probabilities)| largest(probabilities))
        .collect();
    sorted.sort_by(f64::total_cmp);
    let minimum = sorted[sorted.len() / 2];
    let option = minimum.to_string();
    let mut unknown = 0;
    let limited = predictions(&dir, "runs/train", &["--min-probability", &option]);
    for ((path, class, probabilities), (_, without, same)) in limited.iter().zip(&all) {
        assert_eq!(probabilities, same, "{path}");
        let is_unknown = largest(probabilities) < minimum;
        let expected = if is_unknown {
            "unknown"
        } else {
            without.as_str()
        };
        assert_eq!(class, expected, "{path}");
        unknown += usize::from(is_unknown);
    }
    assert!(unknown > 0 && unknown < limited.len(), "{unknown}");

    let arguments = [
        "predict",
        "runs/train",
        "data/val",
        "--min-probability",
        &option,
    ];
    let text = dir.succeeds(&arguments);
    let lines = text.lines().filter(|line| line.contains(": unknown ("));
    assert_eq!(lines.count(), unknown, "{text}");
    let csv = dir.succeeds(&[&arguments[..], &["--csv"]].concat());
    let lines = csv
        .lines()
        .filter(|line| line.split(',').nth(1) == Some("unknown"));
    assert_eq!(lines.count(), unknown, "{csv}");
}
