//! 2x2 max pooling, stride 2, with PyTorch's gradient: all of it goes to the first maximum.
//!
//! Which of a window's four cells came first is kept in a byte a window.

use candle_core::{DType, Result, Tensor};

/// What a pool leaves.
pub(super) struct Pooled {
    /// (n, c, h/2, w/2).
    pub(super) values: Tensor,
    /// Where each value lay in its window, row by row: 0 to 3, u8, of the same shape. Only if asked for.
    pub(super) places: Option<Tensor>,
}

/// The maxima of `x` (n, c, h, w). A window with a NaN gives NaN, as in PyTorch; its place is then any. So does one
/// with both infinities, which is on its way there.
pub(super) fn max(x: &Tensor, places: bool) -> Result<Pooled> {
    let (n, c, h, w) = x.dims4()?;
    let (oh, ow) = (h / 2, w / 2);
    let x = x.narrow(2, 0, oh * 2)?.narrow(3, 0, ow * 2)?.contiguous()?;
    // candle's maximum may pass over a NaN; the mean does not.
    let (largest, mean) = (x.max_pool2d(2)?, x.avg_pool2d(2)?);
    let values = mean.eq(&mean)?.where_cond(&largest, &mean)?;
    let places = places.then(|| {
        let rows = n * c * oh;
        let (windows, values) = (x.reshape((rows, 2, ow, 2))?, values.reshape((rows, ow))?);
        let misses = |place: usize| {
            let cell = windows.narrow(1, place / 2, 1)?.narrow(3, place % 2, 1)?;
            cell.squeeze(3)?.squeeze(1)?.ne(&values)
        };
        // 0 if the first hits; else 1 and what follows it.
        let one = Tensor::ones(1, DType::U8, x.device())?.broadcast_as((rows, ow))?;
        let third = (misses(2)? + &one)?;
        let second = ((misses(1)? * third)? + &one)?;
        (misses(0)? * second)?.reshape((n, c, oh, ow))
    });
    Ok(Pooled {
        values,
        places: places.transpose()?,
    })
}

/// The gradient of the picture (n, c, size.0, size.1) from that of its maxima (n, c, h/2, w/2).
pub(super) fn scatter(g: &Tensor, places: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (n, c, oh, ow) = g.dims4()?;
    let zero = g.zeros_like()?;
    let cell = |place: u8| places.eq(place)?.where_cond(g, &zero);
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
    fn the_first_maximum_gets_all_of_the_gradient() {
        // Four windows: a tie of all, a tie of the last three, the last alone, and the second row's first.
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
        let places = pooled.places.expect("places");
        let flat = places.flatten_all().and_then(|p| p.to_vec1::<u8>());
        assert_eq!(flat.expect("u8"), [0, 1, 3, 2]);

        let g = Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu).expect("g");
        let spread = scatter(&g, &places, (5, 5)).expect("a gradient");
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
    fn a_nan_anywhere_in_a_window_stays_and_an_infinity_is_none() {
        for place in 0..4 {
            let mut window = [1f32, 2., 3., 4.];
            window[place] = f32::NAN;
            let x = Tensor::from_slice(&window, (1, 1, 2, 2), &Device::Cpu).expect("x");
            let y = max(&x, false).expect("a pool").values;
            let y = y
                .flatten_all()
                .and_then(|y| y.to_vec1::<f32>())
                .expect("f32");
            assert!(y[0].is_nan(), "NaN at {place} gave {}", y[0]);
        }
        let window = [1f32, f32::INFINITY, f32::MAX, f32::MAX];
        let x = Tensor::from_slice(&window, (1, 1, 2, 2), &Device::Cpu).expect("x");
        let y = max(&x, false).expect("a pool").values;
        let y = y.flatten_all().and_then(|y| y.to_vec1::<f32>());
        assert_eq!(y.expect("f32"), [f32::INFINITY]);
    }
}
