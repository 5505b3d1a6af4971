//! The errors of this crate: what went wrong, where, and what to do next.

use crate::event::{GroupLr, Phase};

/// What a data source may fail with; its own error type is kept as the source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong while training or evaluating.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer pattern under which no parameter lies.
    #[error("no parameter lies under `{pattern}`{}; the layers are: {}", did_you_mean(.suggestion), list(.layers))]
    UnknownPattern {
        /// The pattern as it was given.
        pattern: String,
        /// The nearest name that would have matched.
        suggestion: Option<String>,
        /// Every layer that has parameters.
        layers: Vec<String>,
    },

    /// A parameter group whose parameters are all frozen or claimed by longer patterns.
    #[error(
        "the parameter group `{pattern}` has nothing to train: every parameter under it is frozen or belongs to \
         a group with a longer pattern; remove the group or make its layers trainable (trainable layers: {})",
        list(.layers)
    )]
    EmptyGroup {
        /// The group's pattern.
        pattern: String,
        /// The layers that have trainable parameters.
        layers: Vec<String>,
    },

    /// Two groups with the same pattern.
    #[error("two parameter groups have the pattern `{pattern}`; keep one of them")]
    DuplicateGroup {
        /// The pattern that occurs twice.
        pattern: String,
    },

    /// Trainable parameters that no group covers.
    #[error("no parameter group covers {}: add a group for them or freeze them", list(.names))]
    Uncovered {
        /// The parameters without a group.
        names: Vec<String>,
    },

    /// A setting outside its range.
    #[error("{setting} is {value}, but it must be {expected}")]
    Setting {
        /// Which setting, in words.
        setting: String,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },

    /// A parameter that does not exist.
    #[error("there is no parameter `{name}`{}", did_you_mean(.suggestion))]
    UnknownParameter {
        /// The name that was asked for.
        name: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },

    /// Nothing was made trainable.
    #[error(
        "nothing trains: every parameter is frozen; choose layers with `Params::set_trainable`"
    )]
    NothingTrains,

    /// A trainable parameter that lies in none of the model's layers.
    #[error(
        "the trainable parameter `{name}` lies in none of the model's layers ({}): \
         the model must list every layer that has parameters",
        list(.layers)
    )]
    OutsideLayers {
        /// The parameter's name.
        name: String,
        /// The layers the model lists.
        layers: Vec<String>,
    },

    /// The optimizer was made for other parameters than those that train now.
    #[error(
        "the optimizer was made for other parameters than those that train now (differing: {}): \
         make a new `Stage` after `Params::set_trainable`",
        list(.names)
    )]
    OptimizerMismatch {
        /// Parameters that only one of the two knows.
        names: Vec<String>,
    },

    /// A saved state that does not fit the parameters.
    #[error(
        "the saved state does not fit: {what} of `{name}` {problem}; it belongs to another model or other layers trained"
    )]
    SavedState {
        /// Which part of the state.
        what: &'static str,
        /// The parameter.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// Trainable parameters that the loss does not depend on, or whose graph an operation cut.
    #[error(
        "backward gave no gradient to {}: the loss does not depend on them, or an operation without a backward \
         (in candle for example `softmax_last_dim`, or a custom op applied with `no_bwd`) cuts the graph; \
         freeze them or replace the operation",
        list(.names)
    )]
    MissingGradient {
        /// The parameters without a gradient.
        names: Vec<String>,
    },

    /// A loss that is NaN or infinite.
    #[error(transparent)]
    NonFiniteLoss(#[from] Box<NonFiniteLoss>),

    /// A target that is not a class of the model.
    #[error("sample {sample} has class {target}, but the model has {classes} classes (0 to {})", classes.saturating_sub(1))]
    Target {
        /// Index of the sample in its split.
        sample: usize,
        /// Its class index.
        target: u32,
        /// How many classes the model's output has.
        classes: usize,
    },

    /// A batch, or what the model made of it, that does not have the expected shape.
    #[error("{what} has shape {got:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape in words.
        expected: String,
    },

    /// A split of the data without samples.
    #[error("the {phase} split has no samples")]
    EmptySplit {
        /// Which of the two splits.
        phase: Phase,
    },

    /// The data source failed.
    #[error("batch {batch} of the {phase} split{} could not be read", in_epoch(.epoch))]
    Data {
        /// Which of the two splits.
        phase: Phase,
        /// The epoch, counted from 0, in training.
        epoch: Option<u64>,
        /// The batch, counted from 0.
        batch: usize,
        /// The source's own error.
        source: BoxError,
    },

    /// candle failed: out of memory, mismatched shapes, an operation the device lacks.
    #[error("{context} failed")]
    Candle {
        /// What was being done.
        context: String,
        /// candle's error.
        source: candle_core::Error,
    },
}

/// Where and under which conditions a loss stopped being a number.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss is {loss} in batch {batch}{} ({phase}; samples {samples:?}; learning rates {}): try a learning rate \
     ten times smaller, and look at these samples for values that are not finite",
    in_epoch(.epoch),
    show_learning_rates(.learning_rates)
)]
pub struct NonFiniteLoss {
    /// The loss: NaN or an infinity.
    pub loss: f64,
    /// Training or validation.
    pub phase: Phase,
    /// The epoch, counted from 0; `None` outside of training.
    pub epoch: Option<u64>,
    /// The batch in its epoch, counted from 0.
    pub batch: usize,
    /// Indices of the batch's samples in their split.
    pub samples: Vec<usize>,
    /// The learning rates in force.
    pub learning_rates: Vec<GroupLr>,
}

impl Error {
    /// Adds what the training loop knows to an error from a validation pass.
    pub(crate) fn in_epoch(mut self, at: u64, in_force: Vec<GroupLr>) -> Self {
        match &mut self {
            Self::Data { epoch, .. } => *epoch = Some(at),
            Self::NonFiniteLoss(loss) => {
                loss.epoch = Some(at);
                loss.learning_rates = in_force;
            }
            _ => {}
        }
        self
    }
}

/// Says what was being done when candle failed.
pub(crate) trait ResultExt<T> {
    /// `doing` completes the sentence "… failed".
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

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn in_epoch(epoch: &Option<u64>) -> String {
    epoch.map_or_else(String::new, |epoch| {
        format!(" of epoch {epoch} (counted from 0)")
    })
}

fn show_learning_rates(learning_rates: &[GroupLr]) -> String {
    let shown: Vec<String> = learning_rates
        .iter()
        .map(|g| format!("`{}` {:e}", g.pattern, g.lr))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The first names of a list: a message with hundreds of them is not read.
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
