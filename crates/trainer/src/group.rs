//! Parameter groups and their learning rates.

use serde::{Deserialize, Serialize};

/// A parameter group: the parameters covered by a layer pattern, and their learning rate.
///
/// A parameter belongs to the group with the longest pattern that covers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Layer prefix (see [`pattern`](crate::pattern)). The empty pattern covers all parameters.
    pub pattern: String,
    /// Learning rate before the schedule is applied, finite and at least 0.
    pub lr: f64,
}

impl Group {
    /// Creates the group of the parameters covered by `pattern`.
    pub fn new(pattern: impl Into<String>, lr: f64) -> Self {
        Self {
            pattern: pattern.into(),
            lr,
        }
    }

    /// Creates the group of all parameters that no other group covers.
    pub fn everything(lr: f64) -> Self {
        Self::new("", lr)
    }
}

/// The learning rate and the size of a parameter group, as reported in events and errors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLr {
    /// Layer pattern of the group.
    pub pattern: String,
    /// Number of scalar values in the parameters of the group.
    pub parameters: usize,
    /// Learning rate. Includes the schedule's factor, except in
    /// [`Event::StageStart`](crate::Event::StageStart).
    pub lr: f64,
}
