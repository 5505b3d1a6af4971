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
    /// The numbers of samples with a fold and with a label differ, or all samples are in one fold.
    #[error("the folds of {folds} samples do not split {samples} samples into two or more folds")]
    Folds {
        /// Number of samples with a fold.
        folds: usize,
        /// Number of labels.
        samples: usize,
    },
    /// There are fewer than two classes, or the number of probabilities is not samples × classes.
    #[error("{values} probabilities do not fit {samples} samples and {classes} classes")]
    ProbabilityShape {
        /// Number of probabilities.
        values: usize,
        /// Number of labels.
        samples: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability is not between 0 and 1.
    #[error("the probability of class {class} of sample {sample} is not between 0 and 1")]
    Probability {
        /// Index of the sample.
        sample: usize,
        /// Index of the class.
        class: usize,
    },
    /// There are no features, their number is not a multiple of the number of samples, or the numbers of
    /// folds and labels differ.
    #[error("{values} features and {folds} folds do not fit {samples} samples")]
    FeatureShape {
        /// Number of features of all samples.
        values: usize,
        /// Number of samples with a fold.
        folds: usize,
        /// Number of labels.
        samples: usize,
    },
    /// A feature is infinite or NaN.
    #[error("feature {feature} of sample {sample} is not finite")]
    NonFiniteFeature {
        /// Index of the sample.
        sample: usize,
        /// Index of the feature.
        feature: usize,
    },
}
