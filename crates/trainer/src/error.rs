//! The error types of this crate.

use candle_core::DType;

use crate::group::GroupLr;
use crate::metrics::Phase;

/// An error from the caller's code: a [`DataLoader`](crate::DataLoader) or a function that builds
/// a model.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error in training or evaluation.
///
/// `Display` states what went wrong. [`Error::help`] suggests how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no parameters yet, because no model has been built.
    #[error("there are no parameters yet")]
    NoParameters,

    /// A layer pattern covers no parameter.
    #[error("no parameter matches the layer pattern `{pattern}`")]
    UnknownPattern {
        /// The pattern without a match.
        pattern: String,
        /// The most similar pattern that matches a parameter, if the pattern is likely a typo.
        suggestion: Option<String>,
        /// All layers that have parameters.
        layers: Vec<String>,
    },

    /// All parameters covered by a group are frozen or belong to groups with longer patterns.
    #[error("the parameter group `{pattern}` has no trainable parameters")]
    EmptyGroup {
        /// Layer pattern of the empty group.
        pattern: String,
        /// All layers that have trainable parameters.
        layers: Vec<String>,
    },

    /// Two groups have the same pattern.
    #[error("two parameter groups have the pattern `{pattern}`")]
    DuplicateGroup {
        /// The pattern that occurs twice.
        pattern: String,
    },

    /// Some trainable parameters belong to no group.
    #[error("no parameter group contains {}", list(.names))]
    Uncovered {
        /// Names of the parameters without a group.
        names: Vec<String>,
    },

    /// A setting is out of range.
    #[error("{setting} is {value}, but must be {expected}")]
    Setting {
        /// Name of the setting as shown in the message, such as `the momentum`.
        setting: String,
        /// The rejected value.
        value: String,
        /// The allowed values, such as `finite and at least 0`.
        expected: &'static str,
    },

    /// A parameter does not exist, or has never been trainable.
    #[error("there is no trainable parameter `{name}`")]
    UnknownParameter {
        /// The name without a parameter.
        name: String,
        /// The most similar parameter name, if `name` is likely a typo.
        suggestion: Option<String>,
    },

    /// All parameters are frozen.
    #[error("all parameters are frozen")]
    NothingTrainable,

    /// A trainable parameter belongs to none of the layers that the model lists.
    #[error("the trainable parameter `{name}` belongs to no layer of the model")]
    OutsideLayers {
        /// Name of the parameter.
        name: String,
        /// The layers listed by the model.
        layers: Vec<String>,
    },

    /// The optimizer was created for a different set of trainable parameters.
    #[error("the optimizer and the model disagree on which parameters are trainable: {}", list(.names))]
    OptimizerMismatch {
        /// Names of the parameters that are trainable in only one of the two.
        names: Vec<String>,
    },

    /// A saved state does not match the parameters.
    #[error("the saved state does not match the model: {part} of `{name}` {problem}")]
    SavedState {
        /// The invalid part of the state, such as `the velocity`.
        part: &'static str,
        /// Name of the parameter or other item that `part` belongs to.
        name: String,
        /// What is wrong with the part, such as `is missing`.
        problem: String,
    },

    /// A saved state has a complete epoch, but no best epoch.
    #[error("the saved state is in epoch {epoch}, but has no best epoch")]
    NoBestEpoch {
        /// Current epoch of the state. Epoch 0 is the baseline.
        epoch: u64,
    },

    /// Trainable parameters have no gradient.
    #[error("the backward pass computed no gradient for {}", list(.names))]
    MissingGradient {
        /// Names of the parameters without a gradient.
        names: Vec<String>,
    },

    /// The loss is NaN or infinite.
    #[error(transparent)]
    NonFiniteLoss(#[from] Box<NonFiniteLoss>),

    /// A target is not the index of one of the model's classes.
    #[error("sample {sample} has class index {target}, but the model has {classes} classes")]
    Target {
        /// Index of the sample in its split.
        sample: usize,
        /// The invalid class index.
        target: u32,
        /// Number of classes in the model output.
        classes: usize,
    },

    /// A batch tensor or the model output has an unexpected shape.
    #[error("{tensor} has shape {got:?}, expected {expected}")]
    Shape {
        /// The tensor, such as `the model output`.
        tensor: &'static str,
        /// The actual shape.
        got: Vec<usize>,
        /// The expected shape, such as `(4, classes)`.
        expected: String,
    },

    /// A batch tensor has an unexpected dtype.
    #[error("{tensor} has dtype {}, expected {}", .got.as_str(), .expected.as_str())]
    Dtype {
        /// The tensor, such as `the target tensor of the batch`.
        tensor: &'static str,
        /// The actual dtype.
        got: DType,
        /// The expected dtype.
        expected: DType,
    },

    /// A split has no samples.
    #[error("the {phase} split has no samples")]
    EmptySplit {
        /// The phase that uses the split.
        phase: Phase,
    },

    /// The data loader failed.
    #[error("cannot load {phase} batch {batch}{}", in_epoch(.epoch))]
    Data {
        /// The phase that requested the batch.
        phase: Phase,
        /// Training epoch, counted from 1, or 0 for the baseline. `None` for errors from
        /// [`evaluate`](crate::evaluate()).
        epoch: Option<u64>,
        /// Batch within the epoch, counted from 0.
        batch: usize,
        /// The error returned by the data loader.
        source: BoxError,
    },

    /// The model could not be built.
    #[error("cannot build the model")]
    Build {
        /// The error returned by the function that builds the model.
        source: BoxError,
    },

    /// A candle operation failed.
    #[error("{context}")]
    Candle {
        /// Description of the failed operation, such as `the forward pass failed`.
        context: String,
        /// The underlying candle error.
        source: candle_core::Error,
    },
}

/// Details of a loss that is NaN or infinite.
#[derive(Debug, thiserror::Error)]
#[error("the loss is {loss} in {phase} batch {batch}{}", in_epoch(.epoch))]
pub struct NonFiniteLoss {
    /// Mean loss of the batch: NaN or infinite.
    pub loss: f64,
    /// The phase in which the loss was computed.
    pub phase: Phase,
    /// Training epoch, counted from 1, or 0 for the baseline. `None` for errors from
    /// [`evaluate`](crate::evaluate()).
    pub epoch: Option<u64>,
    /// Batch within the epoch, counted from 0.
    pub batch: usize,
    /// Index of each sample of the batch in its split.
    pub samples: Vec<usize>,
    /// Learning rates in this epoch, by group. Empty in the baseline and if `epoch` is `None`.
    pub learning_rates: Vec<GroupLr>,
}

impl Error {
    /// Returns a suggestion for fixing the error, if there is one.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoParameters => "build the model first, which creates its parameters".to_owned(),
            Self::UnknownPattern {
                suggestion, layers, ..
            } => match suggestion {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the layers are {}", list(layers)),
            },
            Self::EmptyGroup { layers, .. } => format!(
                "a parameter belongs to the group with the longest matching pattern; remove this group, or make \
                 one of its layers trainable (trainable: {})",
                list(layers)
            ),
            Self::DuplicateGroup { .. } => "remove one of them".to_owned(),
            Self::Uncovered { .. } => "add a group for these parameters, or freeze them".to_owned(),
            Self::UnknownParameter {
                suggestion: Some(name),
                ..
            } => format!("did you mean `{name}`?"),
            Self::NothingTrainable => "make at least one layer trainable".to_owned(),
            Self::OutsideLayers { layers, .. } => format!(
                "the model must list every layer that has parameters; it lists {}",
                list(layers)
            ),
            Self::OptimizerMismatch { .. } => {
                "create a new stage after changing which parameters are trainable".to_owned()
            }
            Self::SavedState { .. } => {
                "use the model and the trainable layers that the state was saved with".to_owned()
            }
            Self::NoBestEpoch { .. } => "use the state as it was saved".to_owned(),
            Self::MissingGradient { .. } => {
                "freeze these parameters, or replace the operation that cuts the graph, such as candle's \
                 `softmax_last_dim` or a custom operation without a backward pass"
                    .to_owned()
            }
            Self::NonFiniteLoss(error) if error.learning_rates.is_empty() => format!(
                "check the weights and samples {:?} for non-finite values",
                error.samples
            ),
            Self::NonFiniteLoss(error) => format!(
                "divide the learning rates by ten ({}), and check samples {:?} for non-finite values",
                show_learning_rates(&error.learning_rates),
                error.samples
            ),
            _ => return None,
        })
    }

    /// Adds the epoch and the learning rates to an error from a validation pass.
    pub(crate) fn at_epoch(mut self, at: u64, learning_rates: Vec<GroupLr>) -> Self {
        match &mut self {
            Self::Data { epoch, .. } => *epoch = Some(at),
            Self::NonFiniteLoss(error) => {
                error.epoch = Some(at);
                // The baseline precedes the first step, so the learning rates are not the cause.
                if at > 0 {
                    error.learning_rates = learning_rates;
                }
            }
            _ => {}
        }
        self
    }
}

/// Adds a message to a candle error, like `anyhow::Context`.
pub(crate) trait ResultExt<T> {
    /// Wraps the error in [`Error::Candle`] with a message such as "the forward pass failed".
    fn context(self, context: impl Into<String>) -> Result<T, Error>;
}

impl<T> ResultExt<T> for candle_core::Result<T> {
    fn context(self, context: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Candle {
            context: context.into(),
            source,
        })
    }
}

fn in_epoch(epoch: &Option<u64>) -> String {
    let epoch = match epoch {
        None => String::new(),
        Some(0) => " of the baseline".to_owned(),
        Some(epoch) => format!(" of epoch {epoch}"),
    };
    format!("{epoch} (batches count from 0)")
}

fn show_learning_rates(learning_rates: &[GroupLr]) -> String {
    let shown = learning_rates.iter();
    let shown = shown.map(|group| match group.pattern.as_str() {
        "" => format!("{:e}", group.lr),
        pattern => format!("`{pattern}` {:e}", group.lr),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Formats a list of names for a message. Only the first 40 are shown.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 40;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
