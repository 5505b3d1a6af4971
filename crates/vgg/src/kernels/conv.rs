//! Stacks of 3x3 convolutions as candle operations.
//!
//! On the CPU, the activations between the layers have the NCHWc16 layout. If no tensor is tracked,
//! images pass through the layers in small groups, without a graph ([`super::inference`]). The same
//! applies to the layers before the first tracked tensor. The other layers process the whole batch
//! and record a tape for the backward pass ([`super::autograd`]).

use std::sync::Arc;

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, bail};

use super::autograd::forward_with_tape;
use super::device;
use super::grad_sink::GradSink;
use super::inference::forward_inference;
use super::isa::Isa;
use super::layout::NchwcShape;
use super::weights::{self, KernelLayout, TransformedWeights};
use crate::precision::Memo;

/// A 3x3 convolution with stride 1, padding 1, bias and ReLU, and an optional 2x2 max pool.
#[derive(Clone, Debug)]
pub struct ConvLayer {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) pool: bool,
    pub(super) grad_sink: Option<GradSink>,
    isa: Isa,
    transformed: Memo<Arc<TransformedWeights>>,
}

impl ConvLayer {
    /// Creates a layer from `weight` (k, c, 3, 3) and `bias` (k), both f32.
    ///
    /// The layer caches the transform of an untracked weight. After changing such a weight in
    /// place, create a new layer.
    ///
    /// # Errors
    ///
    /// Returns an error if `weight` is empty or not (k, c, 3, 3), or if `bias` is not (k).
    pub fn new(weight: Tensor, bias: Tensor, pool: bool) -> Result<Self> {
        Self::with_isa(weight, bias, pool, Isa::selected())
    }

    /// Like [`ConvLayer::new`], for a specific instruction set. For tests and benchmarks.
    ///
    /// # Errors
    ///
    /// Returns an error if `weight` is empty or not (k, c, 3, 3), if `bias` is not (k), or if the
    /// CPU lacks the instruction set.
    pub fn with_isa(weight: Tensor, bias: Tensor, pool: bool, isa: Isa) -> Result<Self> {
        let (k, c, kh, kw) = weight.dims4()?;
        if (kh, kw) != (3, 3) || bias.dims() != [k] || k * c == 0 {
            bail!(
                "expected a weight (k, c, 3, 3) and a bias (k), got {:?} and {:?}",
                weight.shape(),
                bias.shape()
            );
        }
        if !Isa::available().contains(&isa) {
            bail!("this CPU does not support {}", isa.name());
        }
        Ok(Self {
            weight: weight.contiguous()?,
            bias: bias.contiguous()?,
            pool,
            grad_sink: None,
            isa,
            transformed: Memo::default(),
        })
    }

    /// Stores the gradients of the weight and the bias in `grad_sink` instead of candle's
    /// `GradStore`. Devices other than the CPU ignore the sink.
    pub fn with_grad_sink(self, grad_sink: &GradSink) -> Self {
        Self {
            grad_sink: Some(grad_sink.clone()),
            ..self
        }
    }

    pub(super) fn tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the transformed weight, which is cached if the weight is not tracked.
    pub(super) fn transformed(&self) -> Result<Arc<TransformedWeights>> {
        let transform = || {
            let (k, c, _, _) = self.weight.dims4()?;
            let transformed = with_values(&self.weight, |weight| {
                weights::transform(self.isa, weight, KernelLayout::forward(k, c))
            })?;
            Ok(Arc::new(transformed))
        };
        match self.weight.track_op() {
            true => transform(),
            false => self.transformed.get_or_try_init(transform),
        }
    }
}

/// Runs the layers in sequence: `x` (n, c, h, w) f32 → (n, k, h', w').
///
/// Differentiable with respect to `x`, the weights and the biases. Gradients are computed only for
/// tracked tensors.
///
/// # Errors
///
/// Returns an error if the channel counts of `x` and the layers do not match, if the images are too
/// small for the pools, or if `x` is on the CPU and not f32.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let mut shapes = vec![NchwcShape { n, c, h, w }];
    for layer in layers {
        let from = shapes[shapes.len() - 1];
        let (k, c, _, _) = layer.weight.dims4()?;
        if c != from.c {
            bail!("expected an input with {c} channels, got {}", from.c);
        }
        let to = NchwcShape { c: k, ..from };
        let to = if layer.pool { to.pooled() } else { to };
        if to.h == 0 || to.w == 0 {
            bail!(
                "{}x{} pixels are too small for a 2x2 max pool",
                from.h,
                from.w
            );
        }
        shapes.push(to);
    }
    if n == 0 || layers.is_empty() {
        let to = shapes[shapes.len() - 1];
        return if layers.is_empty() {
            Ok(x.clone())
        } else {
            Tensor::zeros((0, to.c, to.h, to.w), x.dtype(), x.device())
        };
    }
    if !matches!(x.device(), Device::Cpu) {
        return device::conv_stack(x, layers);
    }
    let x = x.contiguous()?;
    if !x.track_op() && !layers.iter().any(ConvLayer::tracked) {
        return forward_inference(&x, layers, &shapes);
    }
    // Layers before the first tracked tensor need no graph.
    let first_tracked = layers.iter().position(ConvLayer::tracked).unwrap_or(0);
    if first_tracked == 0 || x.track_op() {
        return forward_with_tape(&x, layers, &shapes);
    }
    let x = forward_inference(&x, &layers[..first_tracked], &shapes[..=first_tracked])?;
    forward_with_tape(&x, &layers[first_tracked..], &shapes[first_tracked..])
}

/// Returns the elements of a contiguous f32 tensor on the CPU.
pub(super) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("expected a contiguous tensor"),
    }
}

/// Calls `f` with the elements of a contiguous f32 tensor on the CPU.
pub(super) fn with_values<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    cpu_values(&storage, layout).map(f)
}

/// Returns the elements of a storage, which must be contiguous f32 on the CPU.
pub(super) fn cpu_values<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => bail!("expected a tensor on the CPU"),
    }
}
