//! Linear layers with a contiguous weight gradient.
//!
//! y = x·wᵀ + b; dx = dy·w, dw = dyᵀ·x, db = Σ dy. candle's own backward pass returns dw as a
//! transposed view, which the optimizer would have to copy: 411 MB per step for `classifier.0` of
//! VGG-16.
//!
//! The forward product has few rows (images) and a large weight. A general GEMM would repack the
//! weight on every call. Here the weight is not repacked, and each thread reads its own rows of it
//! from memory once.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use crate::grad::{GradSink, Gradient};
use crate::isa::Isa;
use crate::isa::lanes::{Lanes, Task};
use crate::parallel::{DisjointMut, for_each_chunk};
use crate::storage::contiguous;

/// Applies a linear layer: `x` (n, in), `weight` (out, in), `bias` (out) → (n, out). On the CPU,
/// all tensors must be f32. On other devices, see [`device::linear`](crate::device::linear).
///
/// Differentiable with respect to all three arguments. Gradients are computed only for tracked
/// tensors.
///
/// # Errors
///
/// Returns an error if the shapes do not match, if a tensor on the CPU is not f32, or if a tensor
/// operation fails.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear_with_grad_sink(x, weight, bias, None)
}

/// Like [`linear`], but stores the gradients of `weight` and `bias` in `grad_sink` instead of
/// candle's `GradStore`. Gradients of tensors that are not contiguous variables still go to the
/// `GradStore`. Devices other than the CPU ignore the sink.
///
/// # Errors
///
/// Returns the errors of [`linear`].
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
            "weight {:?}, bias {:?} and input {:?} of a linear layer do not match",
            weight.shape(),
            bias.shape(),
            x.shape()
        );
    }
    if !matches!(x.device(), Device::Cpu) {
        return crate::device::linear(x, weight, bias);
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    x.apply_op3(&weight, &bias, Linear(grad_sink.cloned()))
}

struct Linear(Option<GradSink>);

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let isa = Isa::selected()?;
        for_each_chunk(output, |outputs| {
            // SAFETY: `Isa::selected` returns only instruction sets that this CPU supports. `x` has
            // n·input elements, `weight` output·input and `y` n·output. Chunks are disjoint, so no
            // other thread writes the columns `outputs` of `y`.
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
        // Detached, so that candle does not record the backward pass.
        let (x_values, weight_values) = (x.detach(), weight.detach());
        let weight_gradient = || {
            let gradient = Gradient::LowRank {
                left: grad.clone(),
                right: x_values.clone(),
            };
            // If `x` is a variable, the optimizer may overwrite it before it uses this gradient, so
            // compute the product now.
            if x.is_variable() {
                return gradient.to_dense().map(Gradient::Dense);
            }
            Ok(gradient)
        };
        let store_or_return = |parameter: &Tensor, gradient: &dyn Fn() -> Result<Gradient>| {
            match parameter.track_op() {
                true => GradSink::store_or_return(self.0.as_ref(), parameter, gradient()?),
                false => Ok(None),
            }
        };
        let dx = x.track_op().then(|| grad.matmul(&weight_values));
        Ok((
            dx.transpose()?,
            store_or_return(weight, &weight_gradient)?,
            store_or_return(bias, &|| grad.sum(0).map(Gradient::Dense))?,
        ))
    }
}

/// Inputs per block: for large batches, a block of x stays in the cache while the weight is read.
/// The products of each block are summed before they are added to y, so the value of a row of y
/// does not depend on the batch size.
const INPUT_BLOCK: usize = 1024;
/// Rows of x per microkernel call for large batches. Batches with fewer rows are small.
const ROWS: usize = 4;
/// Rows of the weight (columns of y) per microkernel call for large batches.
const COLUMNS: usize = 2;
/// Rows of the weight that a microkernel call for small batches reads at the same time. Memory
/// bandwidth is higher with several streams.
const STREAMS: usize = 4;
/// Prefetch distance of a stream, in elements. Hardware prefetchers stop at page boundaries.
const PREFETCH_DISTANCE: usize = 256;

/// `y[:, outputs] += x·weight[outputs]ᵀ`.
struct ForwardTask {
    /// Input, (n, input).
    x: *const f32,
    /// Weight, (output, input).
    weight: *const f32,
    /// Output, (n, output). The task writes only the columns `outputs`.
    y: *mut f32,
    n: usize,
    input: usize,
    output: usize,
    outputs: std::ops::Range<usize>,
}

impl Task for ForwardTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: both functions have the same contract as `run`.
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
    /// Computes batches of fewer than [`ROWS`] rows. All of x stays in the cache, and each row of
    /// the weight is read from start to end.
    ///
    /// # Safety
    ///
    /// The contract of [`Task::run`].
    #[inline(always)]
    unsafe fn small_batch<L: Lanes>(&self) {
        for column in self.outputs.clone().step_by(STREAMS) {
            let columns = STREAMS.min(self.outputs.end - column);
            for from in (0..self.input).step_by(INPUT_BLOCK) {
                let count = INPUT_BLOCK.min(self.input - from);
                for row in 0..self.n {
                    // SAFETY: the contract of `Task::run` holds. `row < n`,
                    // `column + columns <= output` and `from + count <= input`, so the block is
                    // inside the matrices.
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

    /// Computes batches of at least [`ROWS`] rows. One block of x stays in the cache while the
    /// weight is read.
    ///
    /// # Safety
    ///
    /// The contract of [`Task::run`].
    #[inline(always)]
    unsafe fn large_batch<L: Lanes>(&self) {
        for from in (0..self.input).step_by(INPUT_BLOCK) {
            let count = INPUT_BLOCK.min(self.input - from);
            for column in self.outputs.clone().step_by(COLUMNS) {
                for row in (0..self.n).step_by(ROWS) {
                    let rows = ROWS.min(self.n - row);
                    let columns = COLUMNS.min(self.outputs.end - column);
                    // SAFETY: the contract of `Task::run` holds. `row + rows <= n`,
                    // `column + columns <= output` and `from + count <= input`, so the block is
                    // inside the matrices.
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

    /// Microkernel that adds the products of `count` inputs, beginning at `from`, to R x C elements
    /// of y.
    ///
    /// # Safety
    ///
    /// The contract of [`Task::run`]. The rows `row..row + R`, the columns `column..column + C` and
    /// the inputs `from..from + count` must be inside the matrices.
    #[inline(always)]
    unsafe fn block<L: Lanes, const R: usize, const C: usize>(
        &self,
        row: usize,
        column: usize,
        from: usize,
        count: usize,
    ) {
        // SAFETY: the CPU supports the instruction set of `L`, and the rows, columns and inputs are
        // inside the matrices (contract of this function). Prefetches may use any address.
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
