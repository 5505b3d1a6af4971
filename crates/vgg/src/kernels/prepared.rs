//! A convolution layer with its weight transformed and its bias copied out of the tensor.

use std::sync::Arc;

use candle_core::Result;

use super::conv::ConvLayer;
use super::layout::NchwcShape;
use super::weights::TransformedWeights;
use super::winograd::{Epilogue, convolve};

/// The parameters of a [`ConvLayer`], ready for [`convolve`].
pub(super) struct PreparedLayer {
    weights: Arc<TransformedWeights>,
    bias: Vec<f32>,
    pub(super) pool: bool,
}

impl PreparedLayer {
    pub(super) fn new(layer: &ConvLayer) -> Result<Self> {
        Ok(Self {
            weights: layer.transformed()?,
            bias: layer.bias.to_vec1()?,
            pool: layer.pool,
        })
    }

    /// Convolves `x` with shape `from` into `y`, both NCHWc16. `indices` receives the index of the
    /// first maximum of each pooling window.
    pub(super) fn run(
        &self,
        x: &[f32],
        from: NchwcShape,
        y: &mut [f32],
        indices: Option<&mut [u8]>,
    ) {
        let epilogue = Epilogue {
            bias: Some(&self.bias),
            relu: true,
            pool: self.pool,
            indices,
        };
        convolve(x, from, &self.weights, self.bias.len(), epilogue, y);
    }
}
