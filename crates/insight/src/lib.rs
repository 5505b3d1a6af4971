//! Evaluates the predictions of a classifier.
//!
//! The input is [`Scores`]: the logits of each sample and its label. The crate knows no model and no
//! files, and prints nothing.
//!
//! | metrics | of |
//! |---|---|
//! | [`ClassificationReport`] | a confusion matrix: accuracy, precision, recall, F1, Matthews correlation, with [`wilson_interval`]s |
//! | [`top_k_accuracy`], [`one_vs_rest`] | the order of scores: ROC-AUC, average precision |
//! | [`mcnemar`] | the samples that only one of two classifiers predicts correctly |
//! | [`log_loss`], [`brier_score`], [`expected_calibration_error`], [`reliability_bins`] | probabilities |
//!
//! [`calibration`] makes probabilities as confident as they are right. [`LabeledProbabilities`] finds
//! suspected label errors in the [`held_out_probabilities`] of each sample.
//!
//! Values equal those of scikit-learn and torchmetrics, whose names for a metric are in parentheses.
//!
//! ```
//! use insight::{ClassificationReport, Scores};
//!
//! let logits = vec![2.0, 0.0, 0.5, 1.5, 0.0, 1.0];
//! let scores = Scores::new(2, logits, vec![0, 1, 0])?;
//! let report = ClassificationReport::new(&scores.confusion_matrix());
//! assert_eq!((report.correct, report.samples), (2, 3));
//! assert_eq!(report.per_class[0].recall, 0.5);
//! assert_eq!(scores.top_losses(1), [2]);
//! # Ok::<(), insight::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod calibration;
mod confident_learning;
mod error;
mod held_out;
mod interval;
mod logistic_regression;
mod mcnemar;
mod probability;
mod ranking;
mod report;
mod scores;

pub use confident_learning::LabeledProbabilities;
pub use error::{Error, Result};
pub use held_out::{HeldOut, held_out_probabilities};
pub use interval::wilson_interval;
pub use mcnemar::{McNemar, mcnemar};
pub use probability::{
    CALIBRATION_BINS, ReliabilityBin, brier_score, expected_calibration_error, log_loss,
    reliability_bins,
};
pub use ranking::{OneVsRest, macro_mean, one_vs_rest, top_k_accuracy};
pub use report::{Average, ClassMetrics, ClassificationReport};
pub use scores::{Scores, log_softmax};
