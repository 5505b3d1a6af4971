//! Adaptive average pooling: a fixed output size for any input size.
//!
//! Bin i of an axis covers the cells from floor(i·in/out) up to but excluding ceil((i+1)·in/out),
//! as in PyTorch's `AdaptiveAvgPool2d` (aten/src/ATen/native/AdaptiveAveragePooling.cpp). If the
//! input is smaller than the output, several bins cover the same cell.

use candle_core::{Result, Tensor};

/// Pools `x` (n, c, h, w) → (n, c, size.0, size.1). Returns `x` unchanged if (h, w) is `size`.
///
/// The pooling is linear and separable, so it is two products with small matrices, and candle
/// computes the gradients.
///
/// # Errors
///
/// Returns an error if `x` does not have four dimensions, or if candle has no matrix product for
/// its dtype.
pub fn adaptive_avg_pool2d(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if (h, w) == size {
        return Ok(x.clone());
    }
    let columns = bins(w, size.1);
    let columns = Tensor::from_vec(columns, (size.1, w), x.device())?.to_dtype(x.dtype())?;
    let rows = Tensor::from_vec(bins(h, size.0), (size.0, h), x.device())?.to_dtype(x.dtype())?;
    let narrow = x
        .contiguous()?
        .reshape((n * c * h, w))?
        .matmul(&columns.t()?)?
        .reshape((n * c, h, size.1))?;
    let rows = rows.unsqueeze(0)?.broadcast_as((n * c, size.0, h))?;
    rows.contiguous()?
        .matmul(&narrow)?
        .reshape((n, c, size.0, size.1))
}

/// Returns the (output, input) matrix that averages the cells of each bin.
fn bins(input: usize, output: usize) -> Vec<f32> {
    let mut matrix = vec![0f32; output * input];
    for bin in 0..output {
        let (from, to) = (bin * input / output, ((bin + 1) * input).div_ceil(output));
        matrix[bin * input + from..bin * input + to].fill(1.0 / (to - from) as f32);
    }
    matrix
}
