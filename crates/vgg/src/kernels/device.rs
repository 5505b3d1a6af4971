//! The arithmetic on other devices than the CPU: candle's operations, with gradients of our own.
//!
//! candle's own backward pass of a convolution goes through `conv_transpose2d` and through a convolution whose
//! kernel is as large as the picture, that of its max pool gives a unique maximum a quarter of its gradient, and
//! that of a linear layer leaves a transposed view. So a layer here computes its result without a graph and hangs
//! it into the graph as one operation (`computed`) whose gradients are written out.
//!
//! | | formula | how |
//! |---|---|---|
//! | convolution | y = w ∗ x + b | cuDNN with the feature of that name, else candle's `conv2d`: a matrix product |
//! | its input's gradient | w rotated by 180°, channels swapped, ∗ g | the same |
//! | its weight's gradient | Σ g·x at each of nine shifts | cuDNN, else nine batched matrix products |
//! | max pool | first maximum of four | candle's; its place is kept in one byte |
//! | linear | y = x·wᵀ + b | matrix products |
//!
//! Everything runs on any device, so that the tests check it on the CPU against double precision; nothing here
//! copies from the device to the host. Layers compute in the type of `x`: weights of another type are converted,
//! and so are their gradients back, which is how f32 weights train in bf16.

#[cfg(any(feature = "cudnn", test))]
mod choice;
mod computed;
mod convolution;
#[cfg(feature = "cudnn")]
mod cudnn;
mod pool;
mod weight_gradient;

use candle_core::{Result, Tensor};

use super::conv::ConvLayer;
use computed::computed;

/// The largest piece of memory that a convolution gets beside its tensors, in bytes.
///
/// Without cuDNN candle unrolls the pictures of a `conv2d` into a matrix of nine times their size: 3.7 GB for 32
/// pictures in the second layer of VGG-16. So they go through in groups. cuDNN has algorithms that want as much, and
/// others.
const SCRATCH: usize = 1 << 30;

/// As [`conv_stack`](super::conv_stack), on the device of `x` and in its type.
///
/// Errors: channels that do not fit; candle's.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    layers.iter().try_fold(x.clone(), |x, layer| {
        convolution::layer(&x, &layer.weight, &layer.bias, layer.pool)
    })
}

/// As [`linear`](super::linear()), on the device of `x` and in its type.
///
/// Errors: shapes that do not fit; candle's.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let weight = weight.to_dtype(x.dtype())?.contiguous()?;
    let bias = bias.to_dtype(x.dtype())?;
    let product = x.detach().matmul(&weight.detach().t()?)?;
    let y = product.broadcast_add(&bias.detach())?;
    computed(y, [&x, &weight, &bias], |[x, weight, _], _, g, wanted| {
        let [want_x, want_weight, want_bias] = wanted;
        // dw lies as w does: the optimizer need not copy it.
        Ok([
            want_x.then(|| g.matmul(weight)).transpose()?,
            want_weight.then(|| g.t()?.matmul(x)).transpose()?,
            want_bias.then(|| g.sum(0)).transpose()?,
        ])
    })
}

/// As [`relu`](super::relu()), on the device of `x`.
///
/// Errors: candle's.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let flat = x.flatten_all()?;
    let zero = Tensor::zeros(1, x.dtype(), x.device())?.broadcast_as(flat.shape())?;
    // NaN ≤ 0 is false, so NaN passes; and where x is 0 the gradient is 0, as in PyTorch.
    let y = flat.le(&zero)?.where_cond(&zero, &flat)?;
    y.reshape(x.shape())
}
