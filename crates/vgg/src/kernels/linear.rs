//! Fully connected layers whose gradients lie as their weights do.
//!
//! y = x·wᵀ + b; dx = dy·w, dw = dyᵀ·x, db = Σ dy. candle's own backward pass of such a product gives dw as a
//! transposed view, which the optimizer would have to copy: 411 MB for VGG-16's first layer, in every step.
//!
//! The forward product has few rows (pictures) and a large weight, which a general matrix product repacks for
//! nothing. Here the weight is read once, in the order in which it lies, by all threads.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::conv::contiguous;
use super::grad_sink::{GradSink, Gradient};
use super::isa::Isa;
use super::lanes::{Lanes, Task};
use super::parallel::{DisjointMut, for_each_chunk};

/// A fully connected layer: `x` (n, in), `weight` (out, in), `bias` (out) → (n, out), f32.
///
/// Differentiable in all three; each gradient is computed only where it is tracked.
/// Errors: shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear_with_grad_sink(x, weight, bias, None)
}

/// As [`linear`]; puts the gradients of weight and bias aside, on the CPU, instead of giving them to candle.
pub fn linear_with_grad_sink(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    grad_sink: Option<&GradSink>,
) -> Result<Tensor> {
    let (_, input) = x.dims2()?;
    let (output, expected) = weight.dims2()?;
    if input != expected || bias.dims() != [output] {
        bail!(
            "a linear layer of weight {:?} and bias {:?} got {:?}",
            weight.shape(),
            bias.shape(),
            x.shape()
        );
    }
    if !matches!(x.device(), Device::Cpu) {
        return super::device::linear(x, weight, bias);
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    x.apply_op3(&weight, &bias, Linear(grad_sink.cloned()))
}

struct Linear(Option<GradSink>);

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "vgg-linear"
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
        let (n, input) = x_layout.shape().dims2()?;
        let output = weight_layout.shape().dims2()?.0;
        let (x, weight) = (contiguous(x, x_layout)?, contiguous(weight, weight_layout)?);
        let mut y = contiguous(bias, bias_layout)?.repeat(n);
        let to = DisjointMut::new(&mut y);
        let isa = Isa::selected();
        for_each_chunk(output, |outputs| {
            // SAFETY: `isa` was available when it was chosen. x is (n, input), weight (output, input), y
            // (n, output); the columns `outputs` of y are written by this part alone.
            unsafe {
                isa.run(ForwardTask {
                    x: x.as_ptr(),
                    weight: weight.as_ptr(),
                    y: to.slice_ptr(0, n * output),
                    n,
                    input,
                    output,
                    outputs,
                });
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((n, output))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // Detached, so that the backward pass itself is not recorded.
        let (x_values, weight_values) = (x.detach(), weight.detach());
        let product = || {
            let product = Gradient::LowRank {
                left: grad.clone(),
                right: x_values.clone(),
            };
            // The optimizer may write a variable before it comes to this gradient.
            if x.is_variable() {
                return product.values().map(Gradient::Dense);
            }
            Ok(product)
        };
        let store_or_return =
            |of: &Tensor, gradient: &dyn Fn() -> Result<Gradient>| match of.track_op() {
                true => GradSink::store_or_return(self.0.as_ref(), of, gradient()?),
                false => Ok(None),
            };
        let dx = x.track_op().then(|| grad.matmul(&weight_values));
        Ok((
            dx.transpose()?,
            store_or_return(weight, &product)?,
            store_or_return(bias, &|| grad.sum(0).map(Gradient::Dense))?,
        ))
    }
}

/// Inputs whose values stay in the cache while the weights' rows go by; also what is summed before it is added to y,
/// so that a row of y does not depend on how many there are.
const INPUT_BLOCK: usize = 1024;
/// Rows of x that share a load of the weights, and rows of the weights that share one of x.
const ROWS: usize = 4;
const COLUMNS: usize = 2;
/// Rows of the weights that are read side by side for fewer rows of x: memory answers several streams faster than one.
const STREAMS: usize = 4;
/// How far ahead of its use a stream is asked for, in elements: the processor's own guesses end with each page.
const PREFETCH_DISTANCE: usize = 256;

/// y[:, outputs] += x·weightᵀ.
struct ForwardTask {
    x: *const f32,
    weight: *const f32,
    y: *mut f32,
    n: usize,
    input: usize,
    output: usize,
    outputs: std::ops::Range<usize>,
}

impl Task for ForwardTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: promised to `run`.
        unsafe {
            if self.n < ROWS {
                self.small_batch::<L>();
            } else {
                self.large_batch::<L>();
            }
        }
    }
}

impl ForwardTask {
    /// For few rows of x, which stay in the cache whole: each row of the weights is read from end to end.
    ///
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn small_batch<L: Lanes>(&self) {
        for column in self.outputs.clone().step_by(STREAMS) {
            let columns = STREAMS.min(self.outputs.end - column);
            for from in (0..self.input).step_by(INPUT_BLOCK) {
                let count = INPUT_BLOCK.min(self.input - from);
                for row in 0..self.n {
                    // SAFETY: promised by the caller; the elements lie within the matrices.
                    unsafe {
                        if columns == STREAMS {
                            self.block::<L, 1, STREAMS>(row, column, from, count);
                        } else {
                            for column in column..column + columns {
                                self.block::<L, 1, 1>(row, column, from, count);
                            }
                        }
                    }
                }
            }
        }
    }

    /// For many rows of x: a part of them stays in the cache while the weights go by.
    ///
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn large_batch<L: Lanes>(&self) {
        for from in (0..self.input).step_by(INPUT_BLOCK) {
            let count = INPUT_BLOCK.min(self.input - from);
            for column in self.outputs.clone().step_by(COLUMNS) {
                for row in (0..self.n).step_by(ROWS) {
                    let rows = ROWS.min(self.n - row);
                    let columns = COLUMNS.min(self.outputs.end - column);
                    // SAFETY: promised by the caller; rows and columns lie within the matrices.
                    unsafe {
                        if (rows, columns) == (ROWS, COLUMNS) {
                            self.block::<L, ROWS, COLUMNS>(row, column, from, count);
                        } else {
                            for row in row..row + rows {
                                for column in column..column + columns {
                                    self.block::<L, 1, 1>(row, column, from, count);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Adds the products of some inputs to R x C elements of y.
    ///
    /// # Safety
    /// As [`Task::run`]; the elements lie within the matrices.
    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize, const C: usize>(
        &self,
        row: usize,
        column: usize,
        from: usize,
        count: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let x = self.x.add(row * self.input + from);
            let weight = self.weight.add(column * self.input + from);
            let mut sums = [[L::splat(0.0); C]; R];
            let vectors = count / 16;
            for vector in 0..vectors {
                let mut w = [L::splat(0.0); C];
                for c in 0..C {
                    let at = weight.add(c * self.input + vector * 16);
                    w[c] = L::load(at);
                    if C == STREAMS {
                        L::prefetch_l2(at.wrapping_add(PREFETCH_DISTANCE));
                    }
                }
                for r in 0..R {
                    let x = L::load(x.add(r * self.input + vector * 16));
                    for c in 0..C {
                        sums[r][c] = L::fma(x, w[c], sums[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    let mut lanes = [0f32; 16];
                    L::store(lanes.as_mut_ptr(), sums[r][c]);
                    for width in [8, 4, 2, 1] {
                        for lane in 0..width {
                            lanes[lane] += lanes[lane + width];
                        }
                    }
                    let mut sum = lanes[0];
                    for rest in vectors * 16..count {
                        sum += *x.add(r * self.input + rest) * *weight.add(c * self.input + rest);
                    }
                    *self.y.add((row + r) * self.output + column + c) += sum;
                }
            }
        }
    }
}
