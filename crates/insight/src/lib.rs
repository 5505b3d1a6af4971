//! Evaluates the predictions of a classifier.
//!
//! The input is [`Scores`]: the logits of each sample and its label. The crate knows no model and no
//! files, and prints nothing.

#![forbid(unsafe_code)]

mod confident_learning;
mod error;
mod held_out;
mod logistic_regression;
mod scores;

pub use confident_learning::LabeledProbabilities;
pub use error::{Error, Result};
pub use held_out::{HeldOut, held_out_probabilities};
pub use scores::{Scores, log_softmax};
