//! Runs of convolutions as candle operations: what the network calls.
//!
//! On the CPU a run is packed into the blocked layout once, stays in it, and is unpacked once. A tensor between two
//! layers has the shape (n, c/16, h', w', 16) there, border included. Where nothing is tracked there is no graph:
//! pictures go through the layers in small groups ([`super::trunk`]).

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Storage, Tensor, bail};

use super::blocked::{self, Extent, blocked_shape};
use super::conv_op::ConvOp;
use super::device;
use super::path::Path;
use super::trunk::without_graph;
use super::weights::{self, Kernels, Transformed};

/// A 3x3 convolution, stride 1, padding 1, with bias and ReLU, and a 2x2 max pool after it where `pool` says so.
#[derive(Clone, Debug)]
pub struct ConvLayer {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) pool: bool,
    path: Path,
    transformed: Arc<OnceLock<Transformed>>,
}

impl ConvLayer {
    /// `weight` (k, c, 3, 3) and `bias` (k), f32.
    ///
    /// The layer remembers the transform of an untracked weight: build it anew after changing one in place.
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Tensor, pool: bool) -> Result<Self> {
        Self::on_path(weight, bias, pool, Path::chosen())
    }

    /// As [`ConvLayer::new`], on an instruction set of choice, for tests and comparisons.
    ///
    /// Errors: other shapes; an instruction set that this processor lacks.
    pub fn on_path(weight: Tensor, bias: Tensor, pool: bool, path: Path) -> Result<Self> {
        let (k, _, kh, kw) = weight.dims4()?;
        if (kh, kw) != (3, 3) || bias.dims() != [k] {
            bail!(
                "a convolution needs a weight (k, c, 3, 3) and a bias (k), not {:?} and {:?}",
                weight.shape(),
                bias.shape()
            );
        }
        if !Path::available().contains(&path) {
            bail!("this processor has no {}", path.name());
        }
        Ok(Self {
            weight: weight.contiguous()?,
            bias: bias.contiguous()?,
            pool,
            path,
            transformed: Arc::default(),
        })
    }

    pub(super) fn bias(&self) -> &Tensor {
        &self.bias
    }

    pub(super) fn pools(&self) -> bool {
        self.pool
    }

    fn tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    fn outputs(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    fn op(&self, from: Extent) -> Result<ConvOp> {
        Ok(ConvOp::new(from, self.outputs()?, self.pool, self.path))
    }

    /// The transformed weight, remembered where it cannot change.
    pub(super) fn transformed(&self) -> Result<Arc<OnceLock<Transformed>>> {
        let kept = if self.weight.track_op() {
            Arc::default()
        } else {
            Arc::clone(&self.transformed)
        };
        if kept.get().is_none() {
            let (k, c, _, _) = self.weight.dims4()?;
            let transformed = with_values(&self.weight, |weight| {
                weights::transform(self.path, weight, Kernels::forward(k, c))
            })?;
            // Another thread may have been faster; its values are the same.
            let _ = kept.set(transformed);
        }
        Ok(kept)
    }
}

/// Runs the layers one after the other: `x` (n, c, h, w) f32 → (n, k, h', w').
///
/// Differentiable in `x`, the weights and the biases; each gradient is computed only where it is tracked.
/// Errors: channels that do not fit, a picture too small for its pools, another dtype.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let mut extents = vec![Extent { n, c, h, w }];
    for layer in layers {
        let from = extents[extents.len() - 1];
        let (k, c, _, _) = layer.weight.dims4()?;
        if c != from.c {
            bail!("a convolution of {c} channels got {}", from.c);
        }
        let to = Extent { c: k, ..from };
        let to = if layer.pool { to.pooled() } else { to };
        if to.h == 0 || to.w == 0 {
            bail!(
                "{}x{} pixels are too few for a 2x2 max pool",
                from.h,
                from.w
            );
        }
        extents.push(to);
    }
    if !matches!(x.device(), Device::Cpu) {
        return device::conv_stack(x, layers);
    }
    if n == 0 || layers.is_empty() {
        let to = extents[extents.len() - 1];
        return if layers.is_empty() {
            Ok(x.clone())
        } else {
            Tensor::zeros((0, to.c, to.h, to.w), x.dtype(), x.device())
        };
    }
    let x = x.contiguous()?;
    if !x.track_op() && !layers.iter().any(ConvLayer::tracked) {
        return without_graph(&x, layers, &extents);
    }
    let mut y = x.apply_op1(Pack(extents[0]))?;
    for (layer, from) in layers.iter().zip(&extents) {
        y = y.apply_op3(&layer.weight, &layer.bias, layer.op(*from)?)?;
    }
    y.apply_op1(Unpack(extents[extents.len() - 1]))
}

/// (n, c, h, w) → blocked.
struct Pack(Extent);

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "vgg-pack"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = vec![0f32; self.0.len()];
        blocked::pack(contiguous(x, layout)?, self.0, &mut y);
        Ok((CpuStorage::F32(y), blocked_shape(self.0)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?
            .apply_op1_no_bwd(&Unpack(self.0))
            .map(Some)
    }
}

/// Blocked → (n, c, h, w).
struct Unpack(Extent);

impl CustomOp1 for Unpack {
    fn name(&self) -> &'static str {
        "vgg-unpack"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Extent { n, c, h, w } = self.0;
        let y = blocked::unpack(contiguous(x, layout)?, self.0);
        Ok((CpuStorage::F32(y), Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?.apply_op1_no_bwd(&Pack(self.0)).map(Some)
    }
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
