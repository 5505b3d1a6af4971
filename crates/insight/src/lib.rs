//! Evaluates the predictions of a classifier.
//!
//! The input is [`Scores`]: the logits of each sample and its label. The crate knows no model and no
//! files, and prints nothing.

#![forbid(unsafe_code)]

mod error;
mod mcnemar;
mod scores;

pub use error::{Error, Result};
pub use mcnemar::{McNemar, mcnemar};
pub use scores::{Scores, log_softmax};
