//! What the trainer needs of a model: named layers that can be run in part.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::Error;
use crate::gradients::Gradient;
use crate::params::Params;
use crate::pattern;

/// Whether a model trains, and if so, what its dropout draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evaluation: the output depends on the input and the weights alone.
    Eval,
    /// Training: dropout is on, also in frozen layers, with masks that are a function of (`seed`, `step`, layer).
    Train {
        /// The seed of the run.
        seed: u64,
        /// The step in its stage, counted from 0.
        step: u64,
    },
}

/// A model as a sequence of layers with parameters.
///
/// Layers without parameters (activations, pooling, dropout) belong to the layer before them, so that
/// running `0..k` and then `k..n` is running all `n` layers.
pub trait Model {
    /// The layers with parameters, in the order they run, named as in the checkpoint: every parameter's name
    /// lies under one of them (`features.0` for `features.0.weight`).
    fn layer_names(&self) -> &[String];

    /// Runs a part of the layers. `x` is the model's input (B, …) for a range that starts at 0, else the
    /// output of the layers before it. All layers give the logits (B, classes).
    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        mode: Mode,
    ) -> candle_core::Result<Tensor>;

    /// Takes the gradient of a parameter that the model's own operations computed in the last backward pass without
    /// handing it to candle, which would copy it. Most models have none.
    fn take_gradient(&self, parameter: &Tensor) -> Option<Gradient> {
        let _ = parameter;
        None
    }
}

/// How many leading layers have no trainable parameter: what runs without a graph, and once per picture in
/// validation.
///
/// Errors: [`Error::NothingTrains`], or [`Error::OutsideLayers`] for a parameter that the model does not list.
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
    first.ok_or(Error::NothingTrains)
}
