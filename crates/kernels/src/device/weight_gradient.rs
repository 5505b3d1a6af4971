//! The weight gradient of a 3x3 convolution.
//!
//! dw[k, c, i, j] = Σ g[n, k, u, v] · x[n, c, u + i − 1, v + j − 1], summed over images and pixels.
//! As a convolution, this would have a kernel as large as the image, for which libraries are not
//! optimized. cuDNN has a dedicated operation. Without cuDNN, each of the nine taps (i, j) is one
//! matrix product per image.

use candle_core::{DType, Result, Tensor};

/// Computes dw from `x` and `g`: (n, c, h, w), (n, k, h, w) → (k, c, 3, 3), all of the same dtype.
pub(super) fn compute(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if super::cudnn::supports(x) {
        return super::cudnn::weight_gradient(x, g);
    }
    by_products(x, g)
}

/// Computes the nine taps one after the other, so that only one shifted copy of the images and its
/// products are in memory at a time.
fn by_products(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (_, c, h, w) = x.dims4()?;
    let (n, k, _, _) = g.dims4()?;
    let g = g.reshape((n, k, h * w))?;
    let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
    let shift = |at: usize| {
        let x = padded.narrow(2, at / 3, h)?.narrow(3, at % 3, w)?;
        let x = x.contiguous()?.reshape((n, c, h * w))?;
        let products = g.matmul(&x.transpose(1, 2)?)?;
        match products.dtype() {
            // The 8 significant bits of bf16 (11 of f16) are too few for a long sum.
            DType::BF16 | DType::F16 => products.to_dtype(DType::F32)?.sum(0),
            _ => products.sum(0),
        }
    };
    let shifts = (0..9).map(shift).collect::<Result<Vec<_>>>()?;
    let gradient = Tensor::stack(&shifts, 2)?.reshape((k, c, 3, 3))?;
    gradient.to_dtype(x.dtype())
}
