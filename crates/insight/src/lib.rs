//! Evaluates the predictions of a classifier.
//!
//! The input is [`Scores`]: the logits of each sample and its label. The crate knows no model and no
//! files, and prints nothing.

#![forbid(unsafe_code)]

pub mod calibration;
mod error;
mod folds;
mod scores;

pub use error::{Error, Result};
pub use folds::stratified_folds;
pub use scores::{Scores, log_softmax};
