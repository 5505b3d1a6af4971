//! 2x2 max pooling with stride 2.
//!
//! As in PyTorch, the whole gradient of a window goes to its first maximum in row-major order. The
//! index of that cell is stored in one byte per window.

use candle_core::{DType, Result, Tensor, bail};

use super::precomputed::precomputed;

/// 2x2 max pool with stride 2, on any device: `x` (n, c, h, w) → (n, c, h/2, w/2), rounded down.
///
/// The whole gradient of a window goes to its first maximum in row-major order, as in PyTorch. A
/// window that contains a NaN gives NaN, and so does one that contains both +∞ and −∞.
///
/// # Errors
///
/// Returns an error if `x` does not have four dimensions, if h or w is less than 2, or if a tensor
/// operation fails.
pub fn max_pool2d(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if h < 2 || w < 2 {
        bail!("{h}x{w} pixels are too small for a 2x2 max pool");
    }
    let Pooled { values, indices } = max(&x.detach(), x.track_op())?;
    let unused = Tensor::zeros(1, x.dtype(), x.device())?;
    precomputed(values, [x, &unused, &unused], move |_, _, g, _| {
        let dx = indices.as_ref().map(|indices| scatter(g, indices, (h, w)));
        Ok([dx.transpose()?, None, None])
    })
}

/// Output of [`max`].
pub(super) struct Pooled {
    /// The maxima, (n, c, h/2, w/2).
    pub(super) values: Tensor,
    /// Index of the first maximum in each window, 0 to 3 in row-major order: u8, shape of `values`.
    /// `None` if not requested.
    pub(super) indices: Option<Tensor>,
}

/// Max pooling of `x` (n, c, h, w). `with_indices` requests the indices that [`scatter`] needs.
///
/// As in PyTorch, a window that contains a NaN gives NaN. The index is then unspecified. Unlike in
/// PyTorch, a window that contains both +∞ and −∞ also gives NaN, because its mean is NaN. This
/// occurs only if the network has diverged.
pub(super) fn max(x: &Tensor, with_indices: bool) -> Result<Pooled> {
    let (n, c, h, w) = x.dims4()?;
    let (oh, ow) = (h / 2, w / 2);
    let x = x.narrow(2, 0, oh * 2)?.narrow(3, 0, ow * 2)?.contiguous()?;
    // candle's maximum may ignore a NaN, but the mean does not.
    let (largest, mean) = (x.max_pool2d(2)?, x.avg_pool2d(2)?);
    let values = mean.eq(&mean)?.where_cond(&largest, &mean)?;
    let indices = with_indices.then(|| {
        let rows = n * c * oh;
        let (windows, values) = (x.reshape((rows, 2, ow, 2))?, values.reshape((rows, ow))?);
        let misses = |index: usize| {
            let cell = windows.narrow(1, index / 2, 1)?.narrow(3, index % 2, 1)?;
            cell.squeeze(3)?.squeeze(1)?.ne(&values)
        };
        // Evaluates misses(0)·(1 + misses(1)·(1 + misses(2))), the index of the first cell equal to
        // the maximum.
        let one = Tensor::ones(1, DType::U8, x.device())?.broadcast_as((rows, ow))?;
        let third = (misses(2)? + &one)?;
        let second = ((misses(1)? * third)? + &one)?;
        (misses(0)? * second)?.reshape((n, c, oh, ow))
    });
    Ok(Pooled {
        values,
        indices: indices.transpose()?,
    })
}

/// Gradient of the input, (n, c, h, w) with `size` = (h, w), from the gradient `g` of the output,
/// (n, c, h/2, w/2).
pub(super) fn scatter(g: &Tensor, indices: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (n, c, oh, ow) = g.dims4()?;
    let zero = g.zeros_like()?;
    let cell = |index: u8| indices.eq(index)?.where_cond(g, &zero);
    let row = |left: u8| Tensor::stack(&[cell(left)?, cell(left + 1)?], 4);
    let rows = Tensor::stack(&[row(0)?, row(2)?], 3)?;
    rows.reshape((n, c, oh * 2, ow * 2))?
        .pad_with_zeros(2, 0, size.0 - oh * 2)?
        .pad_with_zeros(3, 0, size.1 - ow * 2)?
        .contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_first_maximum_receives_the_whole_gradient() {
        // Four windows: four equal cells, three equal cells, maximum in the last cell, maximum in
        // the third cell.
        let x = [
            [2f32, 2., 0., 5., 9.],
            [2., 2., 5., 5., 9.],
            [-4., -3., 1., 0., 9.],
            [-2., -1., 8., 7., 9.],
            [9., 9., 9., 9., 9.],
        ];
        let x = Tensor::new(&[[x]], &Device::Cpu).expect("x");
        let pooled = max(&x, true).expect("a pool");
        let values = pooled.values.flatten_all().and_then(|v| v.to_vec1::<f32>());
        assert_eq!(values.expect("f32"), [2., 5., -1., 8.]);
        let indices = pooled.indices.expect("indices");
        let flat = indices.flatten_all().and_then(|p| p.to_vec1::<u8>());
        assert_eq!(flat.expect("u8"), [0, 1, 3, 2]);

        let g = Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu).expect("g");
        let spread = scatter(&g, &indices, (5, 5)).expect("a gradient");
        let expected = [
            [1f32, 0., 0., 2., 0.],
            [0., 0., 0., 0., 0.],
            [0., 0., 0., 0., 0.],
            [0., 3., 4., 0., 0.],
            [0., 0., 0., 0., 0.],
        ];
        let spread = spread
            .squeeze(0)
            .and_then(|g| g.squeeze(0)?.to_vec2::<f32>());
        assert_eq!(spread.expect("f32"), expected);
    }

    #[test]
    fn nan_propagates_from_every_cell_and_infinity_does_not_become_nan() {
        for cell in 0..4 {
            let mut window = [1f32, 2., 3., 4.];
            window[cell] = f32::NAN;
            let x = Tensor::from_slice(&window, (1, 1, 2, 2), &Device::Cpu).expect("x");
            let y = max(&x, false).expect("a pool").values;
            let y = y
                .flatten_all()
                .and_then(|y| y.to_vec1::<f32>())
                .expect("f32");
            assert!(y[0].is_nan(), "NaN in cell {cell} gave {}", y[0]);
        }
        let window = [1f32, f32::INFINITY, f32::MAX, f32::MAX];
        let x = Tensor::from_slice(&window, (1, 1, 2, 2), &Device::Cpu).expect("x");
        let y = max(&x, false).expect("a pool").values;
        let y = y.flatten_all().and_then(|y| y.to_vec1::<f32>());
        assert_eq!(y.expect("f32"), [f32::INFINITY]);
    }
}
