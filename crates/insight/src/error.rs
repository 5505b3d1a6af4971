//! The error type.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are fewer than two classes, or the number of logits is not samples × classes.
    #[error("{logits} logits do not fit {samples} samples and {classes} classes")]
    Shape {
        /// Number of logits.
        logits: usize,
        /// Number of labels.
        samples: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A label is not the index of a class.
    #[error("label {label} of sample {sample} is not one of {classes} classes")]
    Label {
        /// Index of the sample.
        sample: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A logit is infinite or NaN.
    #[error("logit {class} of sample {sample} is not finite")]
    NonFinite {
        /// Index of the sample.
        sample: usize,
        /// Index of the class.
        class: usize,
    },
    /// There are no samples.
    #[error("there are no samples")]
    NoSamples,
    /// There are fewer than two folds, or fewer samples than folds.
    #[error("{samples} samples cannot be split into {folds} folds")]
    Folds {
        /// Number of folds.
        folds: usize,
        /// Number of samples.
        samples: usize,
    },
}
