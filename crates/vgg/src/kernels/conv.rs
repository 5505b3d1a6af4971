//! Runs of convolutions as candle operations: what the network calls.

use candle_core::{CpuStorage, CustomOp3, D, Device, Layout, Result, Shape, Tensor, bail};

use super::im2col::{self, Size};
use super::max_pool::max_pool2d;

/// A 3x3 convolution, stride 1, padding 1, with bias and ReLU, and a 2x2 max pool after it where `pool` says so.
#[derive(Clone, Debug)]
pub struct ConvLayer {
    weight: Tensor,
    bias: Tensor,
    pool: bool,
}

impl ConvLayer {
    /// `weight` (k, c, 3, 3) and `bias` (k), f32.
    ///
    /// A layer may remember what it derives from an untracked weight, so build it anew after changing one.
    /// Errors: other shapes.
    pub fn new(weight: Tensor, bias: Tensor, pool: bool) -> Result<Self> {
        let (k, _, kh, kw) = weight.dims4()?;
        if (kh, kw) != (3, 3) || bias.dims() != [k] {
            bail!(
                "a convolution needs a weight (k, c, 3, 3) and a bias (k), not {:?} and {:?}",
                weight.shape(),
                bias.shape()
            );
        }
        Ok(Self { weight, bias, pool })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, c, _, _) = x.dims4()?;
        if c != self.weight.dim(1)? {
            bail!("a convolution of {} channels got {c}", self.weight.dim(1)?);
        }
        if !matches!(x.device(), Device::Cpu) {
            let y = x.conv2d(&self.weight, 1, 1, 1, 1)?;
            let y = y
                .broadcast_add(&self.bias.reshape((1, (), 1, 1))?)?
                .relu()?;
            return if self.pool { pool_by_candle(&y) } else { Ok(y) };
        }
        let y = x.contiguous()?.apply_op3(
            &self.weight.contiguous()?,
            &self.bias.contiguous()?,
            ConvRelu,
        )?;
        if self.pool { max_pool2d(&y) } else { Ok(y) }
    }
}

/// Max pooling from operations whose gradients are right on every device: the larger of two, twice.
fn pool_by_candle(y: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = y.dims4()?;
    let (oh, ow) = (h / 2, w / 2);
    let windows = y
        .narrow(2, 0, oh * 2)?
        .narrow(3, 0, ow * 2)?
        .reshape((n, c, oh, 2, ow, 2))?
        .permute((0, 1, 2, 4, 3, 5))?
        .reshape((n, c, oh, ow, 4))?
        .contiguous()?;
    let first = windows.argmax_keepdim(D::Minus1)?;
    windows.gather(&first, D::Minus1)?.squeeze(D::Minus1)
}

/// Runs the layers one after the other: `x` (n, c, h, w) f32 → (n, k, h', w').
///
/// Differentiable in `x`, the weights and the biases; each gradient is computed only where it is tracked.
/// Errors: channels that do not fit, a picture too small for its pools.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    layers
        .iter()
        .try_fold(x.clone(), |x, layer| layer.forward(&x))
}

/// The values of a contiguous f32 tensor.
pub(super) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("the operation needs contiguous tensors"),
    }
}

/// y = max(0, w ∗ x + b).
struct ConvRelu;

impl CustomOp3 for ConvRelu {
    fn name(&self) -> &'static str {
        "vgg-conv3x3-relu"
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
        let (n, c, h, w) = x_layout.shape().dims4()?;
        let k = weight_layout.shape().dims4()?.0;
        let y = im2col::forward(
            contiguous(x, x_layout)?,
            contiguous(weight, weight_layout)?,
            Some(contiguous(bias, bias_layout)?),
            true,
            Size { n, c, k, h, w },
        );
        Ok((CpuStorage::F32(y), Shape::from((n, k, h, w))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, c, h, w) = x.dims4()?;
        let k = weight.dim(0)?;
        let size = Size { n, c, k, h, w };
        let grad = masked(y, grad)?;
        let device = Device::Cpu;
        let x_grad = if x.track_op() {
            let weight = values(weight)?;
            let values = im2col::input_gradient(&grad, &weight, size);
            Some(Tensor::from_vec(values, (n, c, h, w), &device)?)
        } else {
            None
        };
        let weight_grad = if weight.track_op() {
            let x = values(x)?;
            let values = im2col::weight_gradient(&x, &grad, size);
            Some(Tensor::from_vec(values, (k, c, 3, 3), &device)?)
        } else {
            None
        };
        let bias_grad = if bias.track_op() {
            let values = im2col::bias_gradient(&grad, size);
            Some(Tensor::from_vec(values, k, &device)?)
        } else {
            None
        };
        Ok((x_grad, weight_grad, bias_grad))
    }
}

/// The gradient before the ReLU: `grad` where the output `y` is positive.
fn masked(y: &Tensor, grad: &Tensor) -> Result<Vec<f32>> {
    use rayon::prelude::*;
    let (y, mut grad) = (values(y)?, values(grad)?);
    grad.par_chunks_mut(1 << 14)
        .zip(y.par_chunks(1 << 14))
        .for_each(|(grad, y)| {
            grad.iter_mut().zip(y).for_each(|(grad, &y)| {
                if y <= 0.0 {
                    *grad = 0.0;
                }
            });
        });
    Ok(grad)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}
