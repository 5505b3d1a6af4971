//! 2x2 max pooling, stride 2, with PyTorch's gradient.
//!
//! y[i, j] = max of x[2i..2i+2, 2j..2j+2]; an odd last row or column is left out. The whole gradient goes to the
//! first maximum in row-major order (aten/src/ATen/native/cpu/MaxPoolKernel.cpp). candle's own `max_pool2d`
//! divides it, and wrongly: a unique maximum receives a quarter.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Pools `x` (n, c, h, w) → (n, c, h/2, w/2) on the CPU. NaN wins, as in PyTorch.
pub(super) fn max_pool2d(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MaxPool)
}

struct MaxPool;

/// Where in the window (0..4, row-major) the first maximum lies.
fn first_maximum(window: [f32; 4]) -> usize {
    let mut best = 0;
    for at in 1..4 {
        if window[at] > window[best] || (window[at].is_nan() && !window[best].is_nan()) {
            best = at;
        }
    }
    best
}

fn window(plane: &[f32], w: usize, row: usize, column: usize) -> [f32; 4] {
    let at = 2 * row * w + 2 * column;
    [plane[at], plane[at + 1], plane[at + w], plane[at + w + 1]]
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "vgg-max-pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let (oh, ow) = (h / 2, w / 2);
        if oh == 0 || ow == 0 {
            bail!("max_pool2d: {h}x{w} pixels are too few for a 2x2 window");
        }
        let x = super::conv::contiguous(storage, layout)?;
        let mut y = vec![0f32; n * c * oh * ow];
        y.par_chunks_mut(oh * ow)
            .zip(x.par_chunks(h * w))
            .for_each(|(y, x)| {
                for row in 0..oh {
                    for column in 0..ow {
                        let window = window(x, w, row, column);
                        y[row * ow + column] = window[first_maximum(window)];
                    }
                }
            });
        Ok((CpuStorage::F32(y), Shape::from((n, c, oh, ow))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        x.contiguous()?
            .apply_op2_no_bwd(&grad.contiguous()?, &MaxPoolGradient)
            .map(Some)
    }
}

struct MaxPoolGradient;

impl candle_core::CustomOp2 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "vgg-max-pool2d-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = x_layout.shape().dims4()?;
        let (oh, ow) = (h / 2, w / 2);
        let x = super::conv::contiguous(x, x_layout)?;
        let grad = super::conv::contiguous(grad, grad_layout)?;
        let mut out = vec![0f32; n * c * h * w];
        out.par_chunks_mut(h * w)
            .zip(x.par_chunks(h * w))
            .zip(grad.par_chunks(oh * ow))
            .for_each(|((out, x), grad)| {
                for row in 0..oh {
                    for column in 0..ow {
                        let first = first_maximum(window(x, w, row, column));
                        let at = (2 * row + first / 2) * w + 2 * column + first % 2;
                        out[at] = grad[row * ow + column];
                    }
                }
            });
        Ok((CpuStorage::F32(out), Shape::from((n, c, h, w))))
    }
}
