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
//! our own operations; other devices run candle's, with gradients of our own ([`device`]).

#![allow(
    clippy::needless_range_loop,
    reason = "small blocks of registers are indexed side by side; iterators hide which"
)]

mod adaptive_pool;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_gemm;
mod autograd;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backward;
#[cfg(target_arch = "x86_64")]
mod bf16x3;
mod buffer;
mod conv;
pub mod device;
mod grad_sink;
mod inference;
mod isa;
mod lanes;
mod layout;
mod linear;
mod microkernel;
mod parallel;
mod prepared;
mod relu;
mod relu_backward;
mod tiles;
mod transform;
mod tuning;
mod weight_gradient;
mod weights;
mod winograd;

pub use adaptive_pool::adaptive_avg_pool2d;
pub use buffer::release_memory;
pub use conv::{ConvLayer, conv_stack};
pub use grad_sink::{GradSink, Gradient};
pub use isa::Isa;
pub use linear::{linear, linear_with_grad_sink};
pub use relu::relu;
