//! A layer ready to run: its weights transformed, its bias at hand.

use std::sync::Arc;

use candle_core::Result;

use super::conv::ConvLayer;
use super::layout::NchwcShape;
use super::weights::TransformedWeights;
use super::winograd::{Epilogue, convolve};

/// What a convolution needs beside its input, taken out of its tensors.
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

    /// Convolves `x` (blocked, of extent `from`) into `y`; `indices` get the pool's first maxima.
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
