//! The convolutions on other devices than the CPU, by candle's operations.

use candle_core::{D, Result, Tensor};

use super::conv::ConvLayer;

/// As [`conv_stack`](super::conv_stack), on the device of `x`.
pub(super) fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    layers.iter().try_fold(x.clone(), |x, layer| {
        let y = x.conv2d(&layer.weight, 1, 1, 1, 1)?;
        let y = y.broadcast_add(&layer.bias.reshape((1, (), 1, 1))?)?;
        let y = super::relu(&y)?;
        if layer.pool { max_pool2d(&y) } else { Ok(y) }
    })
}

/// 2x2 max pooling, stride 2, from operations whose gradients are right: candle's own `max_pool2d` gives a unique
/// maximum a quarter of its gradient.
fn max_pool2d(y: &Tensor) -> Result<Tensor> {
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
