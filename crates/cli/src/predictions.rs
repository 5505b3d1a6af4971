//! `predictions.csv`: the prediction for each image of a split.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use dataset::{Sample, path_text};
use insight::log_softmax;
use trainer::Evaluation;

/// Name of the file in the run directory.
pub const FILE: &str = "predictions.csv";

/// The columns before the probabilities.
pub const COLUMNS: [&str; 3] = ["path", "truth", "predicted"];

/// Writes one row per image of `samples`: its path below the data folder `root`, the true and the
/// predicted class, the probability of each class, calibrated with `temperature`, and −ln of the
/// probability of the true class.
///
/// The format is RFC 4180, with lines that end in LF. Paths have forward slashes and keep their bytes,
/// whether or not they are valid UTF-8. Probabilities are float32 and losses float64, with all their
/// digits, so that equal files mean equal results.
///
/// # Errors
///
/// Returns an error if `out` cannot be written to, or if the evaluation is not one of these samples and
/// classes.
pub fn write(
    out: &mut dyn Write,
    evaluation: &Evaluation,
    temperature: f64,
    classes: &[String],
    root: &Path,
    samples: &[Sample],
) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    for name in COLUMNS {
        csv.write_field(name)?;
    }
    for class in classes {
        csv.write_field(format!("probability_{class}"))?;
    }
    csv.write_field("loss")?;
    csv.write_record(None::<&[u8]>)?;
    let rows = evaluation.logits.chunks_exact(classes.len());
    for (prediction, logits) in evaluation.predictions.iter().zip(rows) {
        let sample = samples.get(prediction.sample).context("unknown sample")?;
        let class = |index: u32| classes.get(index as usize).context("unknown class");
        let path = path_text::relative_path(root, &sample.path);
        csv.write_field(path.as_encoded_bytes())?;
        csv.write_field(class(prediction.target)?)?;
        csv.write_field(class(prediction.prediction)?)?;
        let log_probabilities = log_softmax(logits, temperature);
        for value in &log_probabilities {
            // Unlike `Display`, `Debug` writes small numbers with an exponent.
            csv.write_field(format!("{:?}", value.exp() as f32))?;
        }
        csv.write_field(format!(
            "{:?}",
            -log_probabilities[prediction.target as usize]
        ))?;
        csv.write_record(None::<&[u8]>)?;
    }
    csv.flush()?;
    Ok(())
}
