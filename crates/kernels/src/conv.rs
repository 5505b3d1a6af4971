//! Stacks of 3x3 convolutions.
//!
//! On the CPU, the activations between the layers have the NCHWc16 layout. If no tensor is tracked,
//! images pass through the layers in small groups, without a graph ([`crate::inference`]). The same
//! applies to the layers before the first tracked parameter, unless `x` is tracked. The remaining
//! layers record a tape for the backward pass ([`crate::autograd`]).

use candle_core::{Device, Result, Tensor, bail};

use crate::layer::ConvLayer;
use crate::layout::NchwcShape;
use crate::{autograd, device, inference};

/// Runs the layers in sequence: `x` (n, c, h, w) → (n, k, h', w'). On the CPU, all tensors must be
/// f32. On other devices, see [`device::conv_stack`].
///
/// Differentiable with respect to `x`, the weights and the biases. Gradients are computed only for
/// tracked tensors. On the CPU, a second backward pass through the same result is an error.
///
/// # Errors
///
/// Returns an error if `x` does not have four dimensions, if the channel counts of `x` and the
/// layers do not match, if the images are too small for the pools, if a tensor on the CPU is not
/// f32, if a tensor is too large for a GPU, or if a tensor operation fails.
pub fn conv_stack(x: &Tensor, layers: &[ConvLayer]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let mut shapes = vec![NchwcShape { n, c, h, w }];
    for (index, layer) in layers.iter().enumerate() {
        let from = shapes[shapes.len() - 1];
        let (k, c, _, _) = layer.weight.dims4()?;
        if c != from.c {
            bail!("layer {index} expects {c} input channels, got {}", from.c);
        }
        let to = NchwcShape { c: k, ..from };
        let to = if layer.pool { to.pooled() } else { to };
        if to.h == 0 || to.w == 0 {
            bail!(
                "{}x{} pixels are too small for a 2x2 max pool",
                from.h,
                from.w
            );
        }
        shapes.push(to);
    }
    if n == 0 || layers.is_empty() {
        let to = shapes[shapes.len() - 1];
        return if layers.is_empty() {
            Ok(x.clone())
        } else {
            Tensor::zeros((0, to.c, to.h, to.w), x.dtype(), x.device())
        };
    }
    if !matches!(x.device(), Device::Cpu) {
        return device::conv_stack(x, layers);
    }
    let x = x.contiguous()?;
    if !x.track_op() && !layers.iter().any(ConvLayer::tracked) {
        return inference::forward_inference(&x, layers, &shapes);
    }
    // If `x` is not tracked, the layers before the first tracked parameter need no graph.
    let first_tracked = layers.iter().position(ConvLayer::tracked).unwrap_or(0);
    if first_tracked == 0 || x.track_op() {
        return autograd::forward_with_tape(&x, layers, &shapes);
    }
    let x = inference::forward_inference(&x, &layers[..first_tracked], &shapes[..=first_tracked])?;
    autograd::forward_with_tape(&x, &layers[first_tracked..], &shapes[first_tracked..])
}
