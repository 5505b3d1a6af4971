//! Compares the metrics with values of scikit-learn and torchmetrics.
//!
//! The reference files `insight.json` and `insight.safetensors` are in `tests/golden`, or in the folder
//! that the environment variable `WAGGLE_GOLDEN` selects.

use std::path::PathBuf;

use insight::calibration::fit_temperature;
use insight::{
    ClassificationReport, Scores, brier_score, expected_calibration_error, log_loss, one_vs_rest,
    reliability_bins, top_k_accuracy,
};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// torchmetrics computes in float32, scikit-learn in float64.
const TOLERANCE: f64 = 1e-6;

fn fixture(name: &str) -> Vec<u8> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = std::env::var_os("WAGGLE_GOLDEN").map_or_else(default, PathBuf::from);
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The samples of `scores{index}`.
fn scores(tensors: &SafeTensors<'_>, index: usize) -> Scores {
    let logits = tensors.tensor(&format!("scores{index}.logits")).unwrap();
    let labels = tensors.tensor(&format!("scores{index}.labels")).unwrap();
    assert_eq!((logits.dtype(), labels.dtype()), (Dtype::F32, Dtype::I64));
    let (logit_chunks, _) = logits.data().as_chunks();
    let (label_chunks, _) = labels.data().as_chunks();
    let label = |bytes: &[u8; 8]| u32::try_from(i64::from_le_bytes(*bytes)).unwrap();
    Scores::new(
        logits.shape()[1],
        logit_chunks
            .iter()
            .copied()
            .map(f32::from_le_bytes)
            .collect(),
        label_chunks.iter().map(label).collect(),
    )
    .unwrap()
}

/// Asserts that two JSON values are equal, numbers up to [`TOLERANCE`].
#[track_caller]
fn assert_close(actual: &Value, expected: &Value, name: &str) {
    match (actual, expected) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                assert_close(a, b, name);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let difference = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
            assert!(difference <= TOLERANCE, "{name}: {a} instead of {b}");
        }
        _ => assert_eq!(actual, expected, "{name}"),
    }
}

#[test]
fn golden_metrics() {
    let values: Value = serde_json::from_slice(&fixture("insight.json")).unwrap();
    let bytes = fixture("insight.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let cases = values["scores"].as_array().unwrap();
    assert!(!cases.is_empty());
    for (index, expected) in cases.iter().enumerate() {
        let scores = scores(&tensors, index);
        let confusion = scores.confusion_matrix();
        let report = ClassificationReport::new(&confusion);
        let (macro_average, weighted) = (report.macro_average, report.weighted_average);
        let classes = &report.per_class;
        let one_vs_rest = one_vs_rest(&scores);
        let expected_worst = expected["worst"].as_array().unwrap();
        // Where a class has no samples, scikit-learn reports an average precision of 0.
        let average_precision = one_vs_rest
            .iter()
            .map(|c| c.average_precision.unwrap_or(0.0));
        let checks = [
            ("classes", scores.classes().into()),
            ("accuracy", report.accuracy.into()),
            (
                "accuracy_wilson95",
                report.accuracy_interval.to_vec().into(),
            ),
            ("balanced_accuracy", report.balanced_accuracy.into()),
            ("loss", log_loss(&scores).into()),
            ("brier", brier_score(&scores).into()),
            ("precision", classes.iter().map(|c| c.precision).collect()),
            ("recall", classes.iter().map(|c| c.recall).collect()),
            ("f1", classes.iter().map(|c| c.f1).collect()),
            ("support", classes.iter().map(|c| c.support).collect()),
            (
                "recall_wilson95",
                classes.iter().map(|c| c.recall_interval.to_vec()).collect(),
            ),
            ("weighted_f1", weighted.f1.into()),
            ("mcc", report.matthews_correlation.into()),
            (
                "roc_auc_ovr",
                one_vs_rest
                    .iter()
                    .map(|c| c.roc_auc)
                    .map(Value::from)
                    .collect(),
            ),
            ("average_precision", average_precision.collect()),
            ("ece15", expected_calibration_error(&scores, 15).into()),
            (
                "confusion",
                confusion.into_iter().map(Value::from).collect(),
            ),
            ("worst", scores.top_losses(expected_worst.len()).into()),
        ];
        for (name, actual) in &checks {
            assert_close(actual, &expected[name], &format!("scores{index} {name}"));
        }
        let expected_macro = &expected["macro"];
        assert_close(
            &macro_average.precision.into(),
            &expected_macro["precision"],
            "macro",
        );
        assert_close(
            &macro_average.recall.into(),
            &expected_macro["recall"],
            "macro",
        );
        assert_close(&macro_average.f1.into(), &expected_macro["f1"], "macro");
        let mut top_k = 0;
        for (name, value) in expected.as_object().unwrap() {
            if let Some(k) = name.strip_prefix("top") {
                let k = k.parse().unwrap();
                assert_close(&top_k_accuracy(&scores, k).into(), value, name);
                top_k += 1;
            }
        }
        assert!(top_k > 0);

        let bins = reliability_bins(&scores, 15);
        assert_eq!(
            bins.iter().map(|bin| bin.count).sum::<u64>(),
            report.samples
        );
        let correct: f64 = bins.iter().map(|bin| bin.accuracy * bin.count as f64).sum();
        assert!((correct - report.correct as f64).abs() < 1e-9);

        // The loss is flat around its minimum, so optimizers agree on the temperature only to 1e-3.
        let temperature = expected["temperature"].as_f64().unwrap();
        let fitted = fit_temperature(&scores).unwrap();
        assert!(
            (fitted - temperature).abs() < 1e-3,
            "{fitted}, not {temperature}"
        );
        let at_fitted = log_loss(&scores.clone().with_temperature(fitted));
        assert_close(
            &at_fitted.into(),
            &expected["loss_at_temperature"],
            "loss_at_temperature",
        );

        let scaled = scores.with_temperature(temperature);
        assert_close(
            &log_loss(&scaled).into(),
            &expected["loss_at_temperature"],
            "loss_at_temperature",
        );
        assert_close(
            &expected_calibration_error(&scaled, 15).into(),
            &expected["ece15_at_temperature"],
            "ece15_at_temperature",
        );
    }
}
