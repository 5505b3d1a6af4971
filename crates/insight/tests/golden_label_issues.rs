//! Compares suspected label errors with those of cleanlab, and cross-validated logistic regression with
//! scikit-learn's.
//!
//! The reference files are in `tests/golden/label_issues`. `WAGGLE_GOLDEN` selects another folder for
//! `insight.json` and `insight.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use insight::{LabeledProbabilities, held_out_probabilities};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn local() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/label_issues")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (index, (a, b)) in actual.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{index}: {a} instead of {b}");
    }
}

#[test]
fn golden_label_issues_are_those_of_cleanlab() {
    let folder = std::env::var_os("WAGGLE_GOLDEN").map_or_else(local, PathBuf::from);
    let expected = &json(&folder.join("insight.json"))["label_issues"];
    let bytes = fs::read(folder.join("insight.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (probabilities, labels) = (
        tensors.tensor("issues.probabilities").unwrap(),
        tensors.tensor("issues.labels").unwrap(),
    );
    assert_eq!(
        (probabilities.dtype(), labels.dtype()),
        (Dtype::F64, Dtype::I64)
    );
    let classes = probabilities.shape()[1];
    let words = |bytes: &[u8]| -> Vec<[u8; 8]> {
        let words = bytes.chunks_exact(8);
        words.map(|word| word.try_into().unwrap()).collect()
    };
    let values = words(probabilities.data())
        .into_iter()
        .map(f64::from_le_bytes);
    let labels = words(labels.data()).into_iter();
    let labels = labels.map(|word| u32::try_from(i64::from_le_bytes(word)).unwrap());
    let samples = LabeledProbabilities::new(classes, values.collect(), labels.collect()).unwrap();

    let scores = |name: &str| list::<f64>(&expected[name]);
    assert_close(&samples.self_confidence(), &scores("self_confidence"), 1e-6);
    assert_close(
        &samples.normalized_margin(),
        &scores("normalized_margin"),
        1e-6,
    );
    let issues = |name: &str| list::<usize>(&expected[name]);
    assert_eq!(samples.prune_by_noise_rate(), issues("prune_by_noise_rate"));
    assert_eq!(samples.confident_learning(), issues("confident_learning"));
}

/// The lists in `random.json` are those of cleanlab 2.9. The cases have 2 to 12 classes, some of them
/// rare or without labels, and probabilities with one to three decimals, so that there are ties. They
/// exclude those in which numpy's sort, which is not stable, decides between equal samples.
#[test]
fn golden_random_cases_have_the_label_issues_of_cleanlab() {
    let cases = json(&local().join("random.json"));
    let cases = cases.as_array().unwrap();
    let mut different = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let (values, labels) = (list(&case["probabilities"]), list(&case["labels"]));
        let samples = LabeledProbabilities::new(classes, values, labels).unwrap();
        for (name, actual) in [
            ("prune_by_noise_rate", samples.prune_by_noise_rate()),
            ("confident_learning", samples.confident_learning()),
        ] {
            let expected: Vec<usize> = list(&case[name]);
            if actual != expected {
                different.push(format!("{name} of case {number}: {actual:?}, {expected:?}"));
            }
        }
    }
    let lists = 2 * cases.len();
    assert!(
        lists > 50 && different.is_empty(),
        "{} of {lists}: {different:#?}",
        different.len()
    );
}

/// The reference is scikit-learn's `LogisticRegression` with `C = 1 / (λ n)`, where n is the number of
/// samples in the other folds.
#[test]
fn golden_held_out_probabilities_are_those_of_scikit_learn() {
    let case = json(&local().join("held_out.json"));
    let (features, labels): (Vec<f32>, Vec<u32>) = (list(&case["features"]), list(&case["labels"]));
    let folds: Vec<usize> = list(&case["folds"]);
    let result = held_out_probabilities(&features, &labels, 3, &folds).unwrap();
    assert_eq!(result.l2, case["l2"].as_f64().unwrap());
    let expected: Vec<f64> = list(&case["probabilities"]);
    assert_close(&result.probabilities, &expected, 1e-5);
    let expected = case["log_loss"].as_f64().unwrap();
    assert!(
        (result.log_loss - expected).abs() < 1e-6,
        "{}",
        result.log_loss
    );
}
