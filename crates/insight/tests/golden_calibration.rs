//! Compares fitted temperatures with reference values.
//!
//! The reference files are in `tests/golden`, or in the folder that the environment variable
//! `WAGGLE_GOLDEN` selects.

use std::path::PathBuf;

use insight::calibration::fit_temperature;
use insight::{Scores, log_softmax};
use safetensors::SafeTensors;
use serde_json::Value;

fn fixture(name: &str) -> Vec<u8> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = std::env::var_os("WAGGLE_GOLDEN").map_or_else(default, PathBuf::from);
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The scores of number `index` in the reference file.
fn scores(tensors: &SafeTensors<'_>, index: usize) -> Scores {
    let tensor = |name: &str| tensors.tensor(&format!("scores{index}.{name}")).unwrap();
    let (logits, labels) = (tensor("logits"), tensor("labels"));
    let logits_data = logits.data().chunks_exact(4);
    let labels_data = labels.data().chunks_exact(8);
    Scores::new(
        logits.shape()[1],
        logits_data
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect(),
        labels_data
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as u32)
            .collect(),
    )
    .unwrap()
}

#[test]
fn golden_temperatures() {
    let json: Value = serde_json::from_slice(&fixture("insight.json")).unwrap();
    let bytes = fixture("insight.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let expected = json["scores"].as_array().unwrap();
    assert!(!expected.is_empty());
    for (index, expected) in expected.iter().enumerate() {
        let scores = scores(&tensors, index);
        let temperature = fit_temperature(&scores).unwrap();
        let losses = scores.rows().zip(scores.labels());
        let losses = losses.map(|(row, &label)| -log_softmax(row, temperature)[label as usize]);
        let loss = losses.sum::<f64>() / scores.len() as f64;
        for (name, actual) in [("temperature", temperature), ("loss_at_temperature", loss)] {
            let expected = expected[name].as_f64().unwrap();
            // The loss is flat around its minimum, so optimizers agree on the temperature only to
            // this tolerance.
            let difference = (actual - expected).abs();
            assert!(
                difference < 1e-3,
                "{name} {index}: {actual}, not {expected}"
            );
        }
    }
}
