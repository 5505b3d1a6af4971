//! The errors of the trainer.

use crate::event::{GroupLr, Phase};

/// An error of a data loader.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error in training or evaluation.
///
/// `Display` states the fact. [`Error::help`] suggests a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer pattern covers no parameter.
    #[error("no parameter matches the layer pattern `{pattern}`")]
    UnknownPattern {
        /// The pattern.
        pattern: String,
        /// The nearest pattern that matches a parameter.
        suggestion: Option<String>,
        /// All layers that have parameters.
        layers: Vec<String>,
    },

    /// All parameters covered by a group are frozen or belong to groups with longer patterns.
    #[error("the parameter group `{pattern}` has no trainable parameters")]
    EmptyGroup {
        /// The pattern of the group.
        pattern: String,
        /// The layers that have trainable parameters.
        layers: Vec<String>,
    },

    /// Two groups have the same pattern.
    #[error("two parameter groups have the pattern `{pattern}`")]
    DuplicateGroup {
        /// The pattern.
        pattern: String,
    },

    /// No group covers some of the trainable parameters.
    #[error("no parameter group contains {}", list(.names))]
    Uncovered {
        /// The parameters without a group.
        names: Vec<String>,
    },

    /// A setting is out of range.
    #[error("{setting} is {value}, but must be {expected}")]
    Setting {
        /// The setting, such as `the momentum`.
        setting: String,
        /// The value of the setting.
        value: String,
        /// The allowed values.
        expected: &'static str,
    },

    /// A parameter does not exist, or has never been trainable.
    #[error("there is no trainable parameter `{name}`")]
    UnknownParameter {
        /// Name of the parameter.
        name: String,
        /// The nearest name of a parameter.
        suggestion: Option<String>,
    },

    /// All parameters are frozen.
    #[error("all parameters are frozen")]
    NothingTrainable,

    /// A trainable parameter belongs to none of the layers that the model lists.
    #[error("the trainable parameter `{name}` belongs to no layer of the model")]
    OutsideLayers {
        /// The name of the parameter.
        name: String,
        /// The layers that the model lists.
        layers: Vec<String>,
    },

    /// The optimizer was created for a different set of trainable parameters.
    #[error("the optimizer and the model disagree on which parameters are trainable: {}", list(.names))]
    OptimizerMismatch {
        /// Parameters that are trainable in only one of the two.
        names: Vec<String>,
    },

    /// A saved state does not match the parameters.
    #[error("the saved state does not match the model: {part} of `{name}` {problem}")]
    SavedState {
        /// The part of the state, such as `the velocity`.
        part: &'static str,
        /// The parameter.
        name: String,
        /// The problem, such as `is missing`.
        problem: String,
    },

    /// Trainable parameters have no gradient.
    #[error("the backward pass computed no gradient for {}", list(.names))]
    MissingGradient {
        /// The parameters without a gradient.
        names: Vec<String>,
    },

    /// The loss is NaN or infinite.
    #[error(transparent)]
    NonFiniteLoss(#[from] Box<NonFiniteLoss>),

    /// A target is not a class of the model.
    #[error("sample {sample} has class index {target}, but the model has {classes} classes")]
    Target {
        /// Index of the sample in its split.
        sample: usize,
        /// The class index.
        target: u32,
        /// Number of classes in the output of the model.
        classes: usize,
    },

    /// A tensor of a batch, or the output of the model, has an unexpected shape.
    #[error("{tensor} has shape {got:?}, expected {expected}")]
    Shape {
        /// The tensor, such as `the model output`.
        tensor: &'static str,
        /// The shape of the tensor.
        got: Vec<usize>,
        /// The expected shape, such as `(4, classes)`.
        expected: String,
    },

    /// A split has no samples.
    #[error("the {phase} split has no samples")]
    EmptySplit {
        /// The split.
        phase: Phase,
    },

    /// The data loader failed.
    #[error("cannot load {phase} batch {batch}{}", in_epoch(.epoch))]
    Data {
        /// The split.
        phase: Phase,
        /// The epoch, counted from 0. `None` for errors of [`evaluate`](crate::evaluate()).
        epoch: Option<u64>,
        /// The batch, counted from 0.
        batch: usize,
        /// The error that the loader returned.
        source: BoxError,
    },

    /// A candle operation failed.
    #[error("{context}")]
    Candle {
        /// The operation that failed, such as `cannot build the model`.
        context: String,
        /// The underlying candle error.
        source: candle_core::Error,
    },
}

/// A loss that is NaN or infinite.
#[derive(Debug, thiserror::Error)]
#[error("the loss is {loss} in {phase} batch {batch}{}", in_epoch(.epoch))]
pub struct NonFiniteLoss {
    /// The loss.
    pub loss: f64,
    /// The split.
    pub phase: Phase,
    /// The epoch, counted from 0. `None` for errors of [`evaluate`](crate::evaluate()).
    pub epoch: Option<u64>,
    /// The batch, counted from 0.
    pub batch: usize,
    /// Indices of the samples of the batch in their split.
    pub samples: Vec<usize>,
    /// Learning rates of the epoch. Empty if `epoch` is `None`.
    pub learning_rates: Vec<GroupLr>,
}

impl Error {
    /// Suggests a remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        Some(match self {
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
            Self::MissingGradient { .. } => {
                "freeze these parameters, or replace the operation that cuts the graph, such as candle's \
                 `softmax_last_dim` or a custom operation without a backward pass"
                    .to_owned()
            }
            Self::NonFiniteLoss(error) => format!(
                "divide the learning rates by ten ({}), and check samples {:?} for non-finite values",
                show_learning_rates(&error.learning_rates),
                error.samples
            ),
            _ => return None,
        })
    }

    /// Adds the epoch and the learning rates to an error from a validation pass.
    pub(crate) fn in_epoch(mut self, at: u64, learning_rates: Vec<GroupLr>) -> Self {
        match &mut self {
            Self::Data { epoch, .. } => *epoch = Some(at),
            Self::NonFiniteLoss(error) => {
                error.epoch = Some(at);
                error.learning_rates = learning_rates;
            }
            _ => {}
        }
        self
    }
}

/// Adds a message to a candle error, like `anyhow::Context`.
pub(crate) trait ResultExt<T> {
    /// Wraps the error in [`Error::Candle`] with a message such as "cannot build the model".
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
    let epoch = epoch.map_or_else(String::new, |epoch| format!(" of epoch {epoch}"));
    format!("{epoch} (counted from 0)")
}

fn show_learning_rates(learning_rates: &[GroupLr]) -> String {
    let shown: Vec<String> = learning_rates
        .iter()
        .map(|group| match group.pattern.as_str() {
            "" => format!("{:e}", group.lr),
            pattern => format!("`{pattern}` {:e}", group.lr),
        })
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// Lists up to 40 names.
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
