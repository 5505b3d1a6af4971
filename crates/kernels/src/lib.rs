//! Differentiable layers of convolutional networks for candle, with fast CPU kernels: stacks of 3x3
//! convolutions, linear layers and pooling.
//!
//! | task | start here |
//! |---|---|
//! | create a convolution layer from a `VarBuilder` or from tensors | [`ConvLayer::load`], [`ConvLayer::new`] |
//! | compute outputs and gradients | the functions below |
//! | collect the gradients of large weights outside candle's graph | [`GradSink`] |
//! | find out which instruction set runs | [`Isa::selected`] |
//! | return the memory of the kernels to the system | [`release_memory`] |
//!
//! | function | formula | shapes |
//! |---|---|---|
//! | [`conv_stack`] | per layer: y = max(0, w ∗ x + b), then an optional 2x2 max pool | (n, c, h, w) → (n, k, h', w') |
//! | [`linear`] | y = x·wᵀ + b | (n, in), (out, in), (out) → (n, out) |
//! | [`relu`] | y = max(0, x) | any |
//! | [`max_pool2d`] | maximum of each 2x2 window | (n, c, h, w) → (n, c, h/2, w/2) |
//! | [`adaptive_avg_pool2d`] | mean over the cells of each bin | (n, c, h, w) → (n, c, oh, ow) |
//!
//! In a [`conv_stack`], the ReLU of a layer is optional too. Pools round h/2 and w/2 down.
//!
//! The functions take and return candle tensors and work with candle's backward pass. They compute
//! gradients only for tracked tensors. If no tensor is tracked, no graph is recorded and no
//! activation is saved.
//!
//! On the CPU, convolutions and linear layers are custom ops of this crate, in f32. The
//! convolutions use Winograd's algorithm, in AMX, AVX-512, AVX2 or portable code ([`Isa`]). On
//! other devices, convolutions and linear layers are candle or cuDNN operations with custom
//! gradients ([`device`]).
//!
//! The crate is not a library of general convolutions: convolution kernels are 3x3 with stride 1,
//! padding 1, one group and no dilation.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use kernels::{ConvLayer, conv_stack, linear};
//!
//! # fn main() -> Result<(), kernels::Error> {
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! // Two convolutions, the second with a pool, and a linear layer with 10 outputs.
//! let layers = [
//!     ConvLayer::load(3, 16, false, vb.pp("0"))?,
//!     ConvLayer::load(16, 32, true, vb.pp("1"))?,
//! ];
//! let (weight, bias) = (vb.get((10, 32 * 4 * 4), "2.weight")?, vb.get(10, "2.bias")?);
//!
//! let x = Tensor::zeros((5, 3, 8, 8), DType::F32, &Device::Cpu)?;
//! let y = conv_stack(&x, &layers)?;
//! assert_eq!(y.dims(), [5, 32, 4, 4]);
//! let y = linear(&y.flatten_from(1)?, &weight, &bias)?;
//! assert_eq!(y.dims(), [5, 10]);
//!
//! let gradients = y.sqr()?.sum_all()?.backward()?;
//! assert!(vars.all_vars().iter().all(|var| gradients.get(var).is_some()));
//! # Ok(())
//! # }
//! ```
//!
//! `examples/cnn.rs` trains a small network.
//!
//! # Differences from candle's operations
//!
//! - candle's `max_pool2d` gives a unique maximum a quarter of its gradient, gives each of m equal
//!   maxima m quarters, and for odd heights or widths assigns gradients to the wrong cells. The
//!   pools of this crate give the whole gradient to the first maximum, as in PyTorch. When they
//!   replace candle's pools, the gradients of a layer become about 4 times as large for each pool
//!   between the layer and the loss, so the learning rates have to be tuned again.
//! - NaN propagates through ReLU and pools. candle's `relu` maps NaN to 0.
//! - The weight gradient of [`linear`] is contiguous. candle's is a transposed view.
//! - On the CPU, a second backward pass through the same result of [`conv_stack`] is an error,
//!   because the first pass frees the activations.
//!
//! # Features
//!
//! `cuda`, `cudnn`, `metal`, `accelerate` and `mkl` enable candle's features of the same names.
//! With `cudnn`, convolutions in f32 and bf16 on NVIDIA GPUs use cuDNN.
//!
//! For debug builds, set `[profile.dev.package."*"] opt-level = 3` in the `Cargo.toml` of the
//! workspace that depends on this crate. Without optimization, the kernels are about a hundred
//! times slower.

#![allow(
    clippy::needless_range_loop,
    reason = "loops index several small arrays of registers at once, which iterators would obscure"
)]

mod adaptive_pool;
mod autograd;
mod buffer;
mod conv;
pub mod device;
mod error;
mod grad;
mod inference;
mod isa;
mod layer;
mod layout;
mod linear;
mod parallel;
mod relu;
mod storage;
mod tuning;
mod winograd;

pub use adaptive_pool::adaptive_avg_pool2d;
pub use buffer::release_memory;
pub use candle_core;
pub use candle_nn;
pub use conv::conv_stack;
#[doc(inline)]
pub use device::max_pool2d;
pub use error::Error;
pub use grad::{GradSink, Gradient};
pub use isa::{Isa, UnknownIsa};
pub use layer::ConvLayer;
pub use linear::{linear, linear_with_grad_sink};
pub use relu::relu;
