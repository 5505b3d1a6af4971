//! The model interface of the trainer: a sequence of named layers that can run in part.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::Error;
use crate::gradients::Gradient;
use crate::loss::cross_entropy;
use crate::params::Params;
use crate::pattern;

/// Training or evaluation mode, as in `model.train()` and `model.eval()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evaluation. The output depends only on the input and the weights.
    Eval,
    /// Training. Dropout is active in all layers, frozen ones included, and its masks are a
    /// function of (`seed`, `step`, layer).
    Train {
        /// Seed for the dropout masks.
        seed: u64,
        /// Training step within the stage, counted from 0.
        step: u64,
    },
}

/// A model that the trainer can run as a sequence of layers with parameters.
///
/// A layer without parameters (activation, pooling, dropout) belongs to the preceding layer.
/// Running `0..k` and then `k..n` is therefore the same as running `0..n`.
///
/// A model that cannot be cut into a sequence, or that need not be, lists a single layer with the
/// empty name, which contains all parameters. All layers then run with a graph in training, and
/// validation caches nothing.
pub trait Model {
    /// Names of the layers with parameters, in the order in which they run.
    ///
    /// Each name is the prefix that the parameters of the layer share: `features.0` for
    /// `features.0.weight`. Every parameter must belong to one of the layers.
    fn layer_names(&self) -> &[String];

    /// Runs a range of the layers.
    ///
    /// `x` is the model input, (B, …), if the range starts at 0, and the output of the preceding
    /// layer otherwise. The last layer returns logits, (B, classes).
    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        mode: Mode,
    ) -> candle_core::Result<Tensor>;

    /// Computes the loss of a batch: a scalar, the mean over the samples.
    ///
    /// `logits` is (B, classes), and `targets` contains class indices, (B) in u32. The default is
    /// [`cross_entropy`]. Training and validation use the same loss. The predicted
    /// class does not depend on the loss: it is the class with the largest logit.
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        cross_entropy(logits, targets)
    }

    /// Removes and returns the gradient of `parameter` if the last backward pass through the model
    /// computed it outside candle's graph.
    ///
    /// candle adds each gradient to a zero tensor in its gradient store. A custom operation avoids
    /// this tensor and the addition by storing the gradient of its weight until this method takes
    /// it. The default implementation returns `None`.
    fn take_gradient(&self, parameter: &Tensor) -> Option<Gradient> {
        let _ = parameter;
        None
    }
}

/// Returns the index of the first layer that has a trainable parameter.
///
/// The layers before it run without a graph, and validation caches their outputs across epochs.
///
/// # Errors
///
/// Returns [`Error::NothingTrainable`] if all parameters are frozen, and [`Error::OutsideLayers`]
/// if a trainable parameter belongs to none of the layers in `layer_names`.
pub fn first_trainable_layer(params: &Params, layer_names: &[String]) -> Result<usize, Error> {
    let mut first = None;
    for (name, _) in params.trainable() {
        let layer = layer_names
            .iter()
            .position(|layer| pattern::covers(layer, &name));
        let layer = layer.ok_or_else(|| Error::OutsideLayers {
            name,
            layers: layer_names.to_vec(),
        })?;
        first = Some(first.map_or(layer, |first: usize| first.min(layer)));
    }
    first.ok_or(Error::NothingTrainable)
}
