//! Operations of VGG networks: stacks of 3x3 convolutions, linear layers and pooling.
//!
//! | function | formula | shapes |
//! |---|---|---|
//! | [`conv_stack`] | per layer: y = max(0, w ∗ x + b), then an optional 2x2 max pool | (n, c, h, w) → (n, k, h', w') |
//! | [`linear`] | y = x·wᵀ + b | (n, in), (out, in), (out) → (n, out) |
//! | [`adaptive_avg_pool2d`] | mean over the cells of each bin | (n, c, h, w) → (n, c, oh, ow) |
//!
//! All operations are differentiable and compute gradients only for tracked tensors. If no tensor
//! is tracked, no graph is recorded and no activation is saved.
//!
//! On the CPU, convolutions and linear layers are custom ops of this crate. On other devices, they
//! are candle or cuDNN operations with custom gradients ([`device`]).

#![allow(
    clippy::needless_range_loop,
    reason = "loops index several small arrays of registers at once, which iterators would obscure"
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
