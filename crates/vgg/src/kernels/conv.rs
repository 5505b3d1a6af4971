//! Runs of convolutions as candle operations: what the network calls.
//!
//! On the CPU a run is packed into the blocked layout once, stays in it, and is unpacked once. Where nothing is
//! tracked there is no graph: pictures go through the layers in small groups ([`super::inference`]). Otherwise all
//! of them go through together and leave a trace for the backward pass ([`super::autograd`]).

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

/// A 3x3 convolution, stride 1, padding 1, with bias and ReLU, and a 2x2 max pool after it where `pool` says so.
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
    /// `weight` (k, c, 3, 3) and `bias` (k), f32.
    ///
    /// The layer remembers the transform of an untracked weight: build it anew after changing one in place.
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Tensor, pool: bool) -> Result<Self> {
        Self::with_isa(weight, bias, pool, Isa::selected())
    }

    /// As [`ConvLayer::new`], on an instruction set of choice, for tests and comparisons.
    ///
    /// Errors: other shapes; an instruction set that this processor lacks.
    pub fn with_isa(weight: Tensor, bias: Tensor, pool: bool, isa: Isa) -> Result<Self> {
        let (k, c, kh, kw) = weight.dims4()?;
        if (kh, kw) != (3, 3) || bias.dims() != [k] || k * c == 0 {
            bail!(
                "a convolution needs a weight (k, c, 3, 3) and a bias (k), not {:?} and {:?}",
                weight.shape(),
                bias.shape()
            );
        }
        if !Isa::available().contains(&isa) {
            bail!("this processor has no {}", isa.name());
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

    /// The same layer, which puts the gradients of its weight and bias aside instead of giving them to candle.
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

    /// The transformed weight, remembered where it cannot change.
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

/// Runs the layers one after the other: `x` (n, c, h, w) f32 → (n, k, h', w').
///
/// Differentiable in `x`, the weights and the biases; each gradient is computed only where it is tracked.
/// Errors: channels that do not fit, a picture too small for its pools, another dtype.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let mut shapes = vec![NchwcShape { n, c, h, w }];
    for layer in layers {
        let from = shapes[shapes.len() - 1];
        let (k, c, _, _) = layer.weight.dims4()?;
        if c != from.c {
            bail!("a convolution of {c} channels got {}", from.c);
        }
        let to = NchwcShape { c: k, ..from };
        let to = if layer.pool { to.pooled() } else { to };
        if to.h == 0 || to.w == 0 {
            bail!(
                "{}x{} pixels are too few for a 2x2 max pool",
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
    // What lies before everything tracked needs no graph either.
    let frozen = layers.iter().position(ConvLayer::tracked).unwrap_or(0);
    if frozen == 0 || x.track_op() {
        return forward_with_tape(&x, layers, &shapes);
    }
    let x = forward_inference(&x, &layers[..frozen], &shapes[..=frozen])?;
    forward_with_tape(&x, &layers[frozen..], &shapes[frozen..])
}

/// The values of a contiguous f32 tensor on the CPU.
pub(super) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("the operation needs contiguous tensors"),
    }
}

/// Lends the values of a contiguous f32 tensor on the CPU.
pub(super) fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    on_cpu(&storage, layout).map(work)
}

pub(super) fn on_cpu<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => bail!("the operation runs on the CPU"),
    }
}
