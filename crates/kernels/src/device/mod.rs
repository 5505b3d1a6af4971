//! Layers for GPUs: candle and cuDNN operations with hand-written gradients.
//!
//! candle's own gradients are unsuitable. The backward pass of a convolution runs
//! `conv_transpose2d` and a convolution whose kernel is as large as the image. The backward pass of
//! max pooling gives a unique maximum only a quarter of its gradient. The weight gradient of a
//! linear layer is a transposed view. Therefore each layer computes its result outside the graph
//! and then adds it to the graph as one operation with explicit gradients. In the table, g is the
//! gradient of y. "cuDNN" means the feature `cudnn` with an f32 or bf16 tensor on a CUDA device.
//!
//! | operation | formula | implementation |
//! |---|---|---|
//! | convolution | y = w ∗ x + b | cuDNN, otherwise candle's `conv2d` |
//! | input gradient | (w rotated by 180°, channel axes swapped) ∗ g | the same as the convolution |
//! | weight gradient | Σ g·x for each of the nine taps | cuDNN, otherwise nine batched matrix products |
//! | max pool | first maximum of each 2x2 window | candle's `max_pool2d`; the index of the maximum takes one byte |
//! | linear | y = x·wᵀ + b | matrix products |
//!
//! The code without cuDNN runs on any device, so the tests also run it on the CPU and compare it
//! with a float64 reference. No operation copies from the device to the host. Layers compute in the
//! dtype of `x`. Weights of another dtype are converted, and their gradients are converted back, so
//! f32 weights can train in bf16.

mod convolution;
#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(any(feature = "cudnn", test))]
mod cudnn_algorithm;
#[cfg(feature = "cudnn")]
mod cudnn_descriptors;
#[cfg(feature = "cudnn")]
mod cudnn_problem;
mod pool;
mod precomputed;
mod weight_gradient;

pub use pool::max_pool2d;

use candle_core::{Result, Tensor};

use crate::layer::ConvLayer;
use precomputed::precomputed;

/// Like [`conv_stack`](super::conv_stack), on the device and in the dtype of `x`.
///
/// # Errors
///
/// Returns an error if `x` does not have four dimensions, if the channel counts do not match, if
/// the images are too small for the pools, if a tensor is too large for a GPU, or if a tensor
/// operation fails.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    layers
        .iter()
        .try_fold(x.clone(), |x, layer| convolution::layer(&x, layer))
}

/// Like [`linear`](super::linear()), on the device and in the dtype of `x`.
///
/// # Errors
///
/// Returns an error if the shapes do not match or if a tensor operation fails.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let weight = weight.to_dtype(x.dtype())?.contiguous()?;
    let bias = bias.to_dtype(x.dtype())?;
    let product = x.detach().matmul(&weight.detach().t()?)?;
    let y = product.broadcast_add(&bias.detach())?;
    precomputed(
        y,
        [&x, &weight, &bias],
        |[x, weight, _], _, g, needs_grad| {
            let [needs_dx, needs_dw, needs_db] = needs_grad;
            // dw is contiguous like w, so the optimizer does not have to copy it.
            Ok([
                needs_dx.then(|| g.matmul(weight)).transpose()?,
                needs_dw.then(|| g.t()?.matmul(x)).transpose()?,
                needs_db.then(|| g.sum(0)).transpose()?,
            ])
        },
    )
}

/// Like [`relu`](super::relu()), on the device and in the dtype of `x`.
///
/// # Errors
///
/// Returns an error if a tensor operation fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let flat = x.flatten_all()?;
    let zero = Tensor::zeros(1, x.dtype(), x.device())?.broadcast_as(flat.shape())?;
    // NaN ≤ 0 is false, so NaN passes. The gradient at x = 0 is 0, as in PyTorch.
    let y = flat.le(&zero)?.where_cond(&zero, &flat)?;
    y.reshape(x.shape())
}
