//! The arithmetic of a VGG, behind one seam: runs of 3x3 convolutions, linear layers, pooling.
//!
//! | function | formula | shapes |
//! |---|---|---|
//! | [`conv_stack`] | per layer: y = max(0, w ∗ x + b), then a 2x2 max pool where the layer has one | (n, c, h, w) → (n, k, h', w') |
//! | [`linear`] | y = x·wᵀ + b | (n, in), (out, in), (out) → (n, out) |
//! | [`adaptive_avg_pool2d`] | mean over the cells of a bin | (n, c, h, w) → (n, c, oh, ow) |
//!
//! Each is differentiable, and computes a gradient only for what is tracked: a frozen weight costs none, and
//! when nothing is tracked no graph is recorded and nothing is kept for a backward pass. On the CPU these are
//! our own operations; other devices run candle's.

mod adaptive_pool;
mod conv;
mod im2col;
mod max_pool;
mod relu;
mod share;

pub use adaptive_pool::adaptive_avg_pool2d;
pub use conv::{ConvLayer, conv_stack};
pub use relu::relu;

use candle_core::{Result, Tensor};

/// A fully connected layer: `x` (n, in), `weight` (out, in), `bias` (out) → (n, out).
///
/// Errors: candle's, when shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}
