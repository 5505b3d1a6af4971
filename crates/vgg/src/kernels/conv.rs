//! Runs of convolutions as candle operations: what the network calls.
//!
//! On the CPU a run is packed into the blocked layout once, stays in it, and is unpacked once. A tensor between two
//! layers has the shape (n, c/16, h', w', 16) there, border included. Where nothing is tracked there is no graph:
//! pictures go through the layers in small groups, in buffers that are used again.

use std::sync::{Arc, OnceLock};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::blocked::{self, Extent, LANES};
use super::device;
use super::gradient::{WeightGradient, before_relu};
use super::path::Path;
use super::sizes;
use super::weights::{self, Kernels, Transformed};
use super::winograd::{Epilogue, convolve};

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

    fn tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    fn outputs(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    fn op(&self, from: Extent) -> Result<ConvOp> {
        Ok(ConvOp {
            from,
            k: self.outputs()?,
            pool: self.pool,
            path: self.path,
            indices: OnceLock::new(),
        })
    }

    /// The transformed weight, remembered where it cannot change.
    fn transformed(&self) -> Result<Arc<OnceLock<Transformed>>> {
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

/// Pictures in groups that stay in the caches: one at a time while they are large, several when they are small.
fn without_graph(x: &Tensor, layers: &[ConvLayer], extents: &[Extent]) -> Result<Tensor> {
    let last = extents[layers.len()];
    let transformed: Vec<_> = layers
        .iter()
        .map(ConvLayer::transformed)
        .collect::<Result<_>>()?;
    let biases: Vec<Vec<f32>> = layers
        .iter()
        .map(|layer| layer.bias.to_vec1())
        .collect::<Result<_>>()?;
    let group = sizes::GROUP.min(last.n);
    // The first layers take one picture after the other, the rest a group.
    let single = extents
        .iter()
        .take_while(|extent| extent.h * extent.w > sizes::LARGE_PICTURE);
    let single = single.count().min(layers.len());
    let n_of = |place: usize| if place < single { 1 } else { group };
    let places = extents.iter().enumerate();
    let mut buffers: Vec<Vec<f32>> = places
        .map(|(place, extent)| vec![0f32; extent.with_n(n_of(place)).len()])
        .collect();
    let mut y = Vec::with_capacity(last.n * last.c * last.h * last.w);
    let run = |layer: usize, n: usize, x: &[f32], y: &mut [f32]| {
        let Some(weights) = transformed[layer].get() else {
            unreachable!("the weights were transformed above");
        };
        let epilogue = Epilogue {
            bias: Some(&biases[layer]),
            relu: true,
            pool: layers[layer].pool,
            indices: None,
        };
        let from = extents[layer].with_n(n);
        convolve(x, from, weights, extents[layer + 1].c, epilogue, y);
    };
    with_values(x, |x| {
        let picture = extents[0].c * extents[0].h * extents[0].w;
        for pictures in x.chunks(group * picture) {
            let n = pictures.len() / picture;
            let steps = if single == 0 { 1 } else { n };
            for (step, x) in pictures.chunks(pictures.len() / steps).enumerate() {
                let extent = extents[0].with_n(n / steps);
                blocked::pack(x, extent, &mut buffers[0][..extent.len()]);
                for layer in 0..single {
                    let (before, after) = buffers.split_at_mut(layer + 1);
                    let to = extents[layer + 1].picture();
                    // The last of these layers writes its picture's place in the group.
                    let at = if layer + 1 < single { 0 } else { step * to };
                    run(layer, 1, &before[layer], &mut after[0][at..at + to]);
                }
            }
            for layer in single..layers.len() {
                let (before, after) = buffers.split_at_mut(layer + 1);
                let from = extents[layer].with_n(n).len();
                let to = extents[layer + 1].with_n(n).len();
                run(layer, n, &before[layer][..from], &mut after[0][..to]);
            }
            let extent = last.with_n(n);
            y.extend(blocked::unpack(
                &buffers[layers.len()][..extent.len()],
                extent,
            ));
        }
    })?;
    Tensor::from_vec(y, (last.n, last.c, last.h, last.w), &Device::Cpu)
}

fn blocked_shape(extent: Extent) -> Shape {
    let (row, plane) = (extent.row(), extent.plane());
    Shape::from((extent.n, extent.blocks(), plane / row, row / LANES, LANES))
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

/// y = pool(max(0, w ∗ x + b)), x and y blocked.
struct ConvOp {
    from: Extent,
    k: usize,
    pool: bool,
    path: Path,
    /// Where the pool's first maxima lay, kept from the forward pass for the backward pass.
    indices: OnceLock<Vec<u8>>,
}

impl ConvOp {
    fn to(&self) -> Extent {
        Extent {
            c: self.k,
            ..self.from
        }
    }

    fn stored(&self) -> Extent {
        if self.pool {
            self.to().pooled()
        } else {
            self.to()
        }
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "vgg-conv3x3-relu-pool"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let kernels = Kernels::forward(self.k, self.from.c);
        let weights = weights::transform(self.path, contiguous(weight, weight_layout)?, kernels);
        let stored = self.stored();
        let mut y = vec![0f32; stored.len()];
        let mut indices = if self.pool {
            vec![0u8; stored.len()]
        } else {
            Vec::new()
        };
        let epilogue = Epilogue {
            bias: Some(contiguous(bias, bias_layout)?),
            relu: true,
            pool: self.pool,
            indices: self.pool.then_some(&mut indices),
        };
        convolve(
            contiguous(x, x_layout)?,
            self.from,
            &weights,
            self.k,
            epilogue,
            &mut y,
        );
        if self.pool {
            // An operation runs forward once; a second run would find the same indices.
            let _ = self.indices.set(indices);
        }
        Ok((CpuStorage::F32(y), blocked_shape(stored)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = [x.track_op(), weight.track_op(), bias.track_op()];
        let grad = grad.contiguous()?;
        let lent = [x, weight, y, &grad].map(Tensor::storage_and_layout);
        let [x_values, weight_values, y_values, grad_values] = &lent;
        let found = self.gradients(
            on_cpu(&x_values.0, x_values.1)?,
            on_cpu(&weight_values.0, weight_values.1)?,
            on_cpu(&y_values.0, y_values.1)?,
            on_cpu(&grad_values.0, grad_values.1)?,
            wanted,
        )?;
        let tensor = |values: Option<Vec<f32>>, shape: Shape| {
            values
                .map(|values| Tensor::from_vec(values, shape, &Device::Cpu))
                .transpose()
        };
        Ok((
            tensor(found.x, blocked_shape(self.from))?,
            tensor(found.weight, weight.shape().clone())?,
            tensor(found.bias, bias.shape().clone())?,
        ))
    }
}

struct Gradients {
    x: Option<Vec<f32>>,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl ConvOp {
    /// The wanted gradients, some pictures at a time, so that the gradient before the ReLU is never whole.
    fn gradients(
        &self,
        x: &[f32],
        weight: &[f32],
        y: &[f32],
        grad: &[f32],
        [want_x, want_weight, want_bias]: [bool; 3],
    ) -> Result<Gradients> {
        let (from, to, stored) = (self.from, self.to(), self.stored());
        let indices = match (self.pool, self.indices.get()) {
            (true, None) => bail!("backward before forward"),
            (_, indices) => indices,
        };
        let kernels = Kernels::backward(self.k, from.c);
        let turned = want_x.then(|| weights::transform(self.path, weight, kernels));
        let mut x_grad = want_x.then(|| vec![0f32; from.len()]);
        let mut weight_grad = want_weight.then(|| WeightGradient::new(self.path, from, self.k));
        let mut bias_grad = vec![0f64; self.k];
        let at_once = sizes::masked_pictures(to.picture()).min(from.n);
        let mut g = vec![0f32; to.with_n(at_once).len()];
        for first in (0..from.n).step_by(at_once) {
            let n = at_once.min(from.n - first);
            let part = |extent: Extent| first * extent.picture()..(first + n) * extent.picture();
            let g = &mut g[..to.with_n(n).len()];
            let sums = before_relu(
                self.path,
                &y[part(stored)],
                &grad[part(stored)],
                indices.map(|indices| &indices[part(stored)]),
                to.with_n(n),
                g,
            );
            bias_grad
                .iter_mut()
                .zip(sums)
                .for_each(|(grad, sum)| *grad += sum);
            if let Some(weight_grad) = &mut weight_grad {
                weight_grad.add(&x[part(from)], g, n);
            }
            if let (Some(turned), Some(x_grad)) = (&turned, &mut x_grad) {
                let epilogue = Epilogue {
                    bias: None,
                    relu: false,
                    pool: false,
                    indices: None,
                };
                convolve(
                    g,
                    to.with_n(n),
                    turned,
                    from.c,
                    epilogue,
                    &mut x_grad[part(from)],
                );
            }
        }
        let bias_grad = bias_grad.into_iter().map(|sum| sum as f32).collect();
        Ok(Gradients {
            x: x_grad,
            weight: weight_grad.map(WeightGradient::finish),
            bias: want_bias.then_some(bias_grad),
        })
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

fn on_cpu<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => bail!("the operation runs on the CPU"),
    }
}
