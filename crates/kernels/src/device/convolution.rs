//! A 3x3 convolution with bias, max pooling and ReLU, and its gradients.

use candle_core::{DType, Result, Tensor, bail};

use super::precomputed::precomputed;
use super::{pool, weight_gradient};
use crate::layer::ConvLayer;
use crate::tuning::DEVICE_WORKSPACE;

/// Maximum number of elements of a layer's input and output. cuDNN supports no larger tensors.
/// candle's GPU kernels use 32-bit indices, and some of their loops do not terminate for slightly
/// larger tensors.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// y = max(0, pool(w ∗ x + b)), optionally without the ReLU or the pool: `x` (n, c, h, w) →
/// (n, k, h', w'), in the dtype of `x`.
///
/// Pooling runs before the ReLU, so that the ReLU has a quarter of the elements. For finite values,
/// the result and the gradients are the same as in the usual order, because max(0, ·) is monotonic:
/// it commutes with the maximum and does not move a positive maximum within its window.
pub(super) fn layer(x: &Tensor, layer: &ConvLayer) -> Result<Tensor> {
    let (weight, bias, relu) = (&layer.weight, &layer.bias, layer.relu);
    check_size(x.dims4()?, weight.dim(0)?)?;
    let x = x.contiguous()?;
    let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
    let arguments = [&x, &weight, &bias];
    let tracked = arguments.iter().any(|argument| argument.track_op());

    let y = convolve(&x.detach(), &weight.detach(), DEVICE_WORKSPACE)?;
    let (_, _, h, w) = y.dims4()?;
    let y = y.broadcast_add(&bias.detach().reshape((1, (), 1, 1))?)?;
    let (y, indices) = if layer.pool {
        let pooled = pool::max(&y, tracked)?;
        (pooled.values, pooled.indices)
    } else {
        (y, None)
    };
    let y = if relu { super::relu(&y)? } else { y };
    precomputed(y, arguments, move |[x, weight, _], y, g, needs_grad| {
        let g = match relu {
            // NaN ≤ 0 is false, so the gradient passes at NaN, as in PyTorch.
            true => y.le(&y.zeros_like()?)?.where_cond(&g.zeros_like()?, g)?,
            false => g.clone(),
        };
        let g = match &indices {
            Some(indices) => pool::scatter(&g, indices, (h, w))?,
            None => g,
        };
        let [needs_dx, needs_dw, needs_db] = needs_grad;
        Ok([
            needs_dx
                .then(|| convolve(&g, &rotated(weight)?, DEVICE_WORKSPACE))
                .transpose()?,
            needs_dw
                .then(|| weight_gradient::compute(x, &g))
                .transpose()?,
            needs_db.then(|| bias_gradient(&g)).transpose()?,
        ])
    })
}

/// Checks that the input (n, c, h, w) and the output (n, k, h, w) of a convolution have at most
/// [`MAX_ELEMENTS`] elements each.
fn check_size((n, c, h, w): (usize, usize, usize, usize), k: usize) -> Result<()> {
    let channels = c.max(k);
    let image = h.saturating_mul(w).saturating_mul(channels);
    if n.saturating_mul(image) > MAX_ELEMENTS {
        match MAX_ELEMENTS / image {
            0 => bail!(
                "{channels} channels of {h}x{w} pixels exceed the GPU limit of {MAX_ELEMENTS} elements per tensor"
            ),
            max_batch => bail!(
                "{n} images with {channels} channels of {h}x{w} pixels exceed the GPU limit of \
                 {MAX_ELEMENTS} elements per tensor; at most {max_batch} images fit"
            ),
        }
    }
    Ok(())
}

/// Returns the number of elements in the im2col matrix of one image (c, h, w), or an error if the
/// number does not fit in 32 bits: candle's im2col kernel for CUDA would silently skip elements.
fn im2col_elements((c, h, w): (usize, usize, usize)) -> Result<usize> {
    let elements = 9usize.saturating_mul(c.saturating_mul(h).saturating_mul(w));
    if u32::try_from(elements).is_err() {
        bail!(
            "an image of {h}x{w} pixels with {c} channels is too large for a GPU without cuDNN: the im2col matrix \
             exceeds {} elements",
            u32::MAX
        );
    }
    Ok(elements)
}

/// w ∗ x, stride 1, padding 1.
///
/// Without cuDNN the batch is processed in groups with an im2col matrix of at most `workspace`
/// bytes, or image by image if the matrix of one image is larger.
fn convolve(x: &Tensor, weight: &Tensor, workspace: usize) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if super::cudnn::supports(x) {
        return super::cudnn::convolve(x, weight);
    }
    let (n, c, h, w) = x.dims4()?;
    let bytes = im2col_elements((c, h, w))? * x.dtype().size_in_bytes();
    let group = (workspace / bytes.max(1)).max(1);
    if n <= group {
        return x.conv2d(weight, 1, 1, 1, 1);
    }
    let groups = (0..n).step_by(group).map(|at| {
        let images = x.narrow(0, at, group.min(n - at))?;
        images.conv2d(weight, 1, 1, 1, 1)
    });
    Tensor::cat(&groups.collect::<Result<Vec<_>>>()?, 0)
}

/// Weight of the convolution that computes the input gradient from the output gradient: `weight`
/// rotated by 180° with swapped channel axes, (k, c, 3, 3) → (c, k, 3, 3).
fn rotated(weight: &Tensor) -> Result<Tensor> {
    let (k, c, _, _) = weight.dims4()?;
    // A rotation by 180° reverses the order of the nine taps.
    let rotated = weight.contiguous()?.reshape((k, c, 9))?.flip(&[2])?;
    rotated.reshape((k, c, 3, 3))?.transpose(0, 1)?.contiguous()
}

/// Σ g over images and pixels. If `g` is bf16 or f16, the sum over images accumulates in f32.
fn bias_gradient(g: &Tensor) -> Result<Tensor> {
    let (n, k, _, _) = g.dims4()?;
    let planes = g.reshape((n, k, ()))?.sum(2)?;
    match g.dtype() {
        half @ (DType::BF16 | DType::F16) => planes.to_dtype(DType::F32)?.sum(0)?.to_dtype(half),
        _ => planes.sum(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn batch_beyond_the_gpu_element_limit_is_an_error() {
        check_size((668, 3, 224, 224), 64).expect("2,145,124,352 elements");
        let error = check_size((669, 3, 224, 224), 64).expect_err("2,148,335,616 elements");
        assert!(error.to_string().contains("at most 668"), "{error}");
        let error = check_size((1, 3, 6000, 6000), 64).expect_err("2,304,000,000 elements");
        assert!(
            error.to_string().contains("64 channels of 6000x6000"),
            "{error}"
        );
    }

    #[test]
    fn image_beyond_the_im2col_element_limit_is_an_error() {
        let elements = im2col_elements((64, 2730, 2730)).expect("below u32::MAX");
        assert_eq!(elements, 4_292_870_400);
        let error = im2col_elements((64, 2731, 2731)).expect_err("4,296,015,936 elements");
        assert!(error.to_string().contains("im2col"), "{error}");
    }

    #[test]
    fn convolution_in_groups_equals_convolution_of_the_whole_batch() {
        let x = Tensor::arange(0f32, 5. * 3. * 4. * 6., &Device::Cpu).expect("x");
        let x = x.reshape((5, 3, 4, 6)).expect("x");
        let weight = Tensor::arange(0f32, 2. * 27., &Device::Cpu).expect("weight");
        let weight = weight.reshape((2, 3, 3, 3)).expect("weight");
        let values = |workspace| {
            let y = convolve(&x, &weight, workspace).expect("a convolution");
            assert_eq!(y.dims(), [5, 2, 4, 6]);
            y.flatten_all()
                .and_then(|y| y.to_vec1::<f32>())
                .expect("f32")
        };
        let whole = values(usize::MAX);
        // The im2col matrix of an image has 9·3·4·6 f32 elements. Two matrices fit in the first
        // limit, and none in the second.
        assert_eq!(values(2 * 9 * 72 * 4), whole);
        assert_eq!(values(1), whole);
    }
}
