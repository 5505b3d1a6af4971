//! The gradient of a 3x3 kernel.
//!
//! dw[k, c, i, j] = Σ g[n, k, y, x] · x[n, c, y + i − 1, x + j − 1] over pictures and pixels. As a convolution it
//! would have kernels as large as the pictures, for which no library is made. cuDNN has an operation of its own;
//! without it, each of the nine shifts is a matrix product a picture.

use candle_core::{DType, Result, Tensor};

/// `x` (n, c, h, w), `g` (n, k, h, w) → (k, c, 3, 3), all of one type.
pub(super) fn of(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if super::cudnn::takes(x) {
        return super::cudnn::weight_gradient(x, g);
    }
    by_products(x, g)
}

/// Never more than one shifted copy of the pictures, and the products of each, are in memory.
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
            // Long sums are no matter for eight bits.
            DType::BF16 | DType::F16 => products.to_dtype(DType::F32)?.sum(0),
            _ => products.sum(0),
        }
    };
    let shifts = (0..9).map(shift).collect::<Result<Vec<_>>>()?;
    let gradient = Tensor::stack(&shifts, 2)?.reshape((k, c, 3, 3))?;
    gradient.to_dtype(x.dtype())
}
