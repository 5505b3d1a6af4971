//! A 3x3 convolution with bias, pool and ReLU, and its gradients.

use candle_core::{DType, Result, Tensor, bail};

use super::precomputed::precomputed;
use super::{SCRATCH, pool, weight_gradient};

/// The most numbers in a tensor on a GPU. cuDNN takes no more; candle's kernels count in 32 bits, and somewhat above
/// this some of their loops do not end.
const COUNTABLE: usize = i32::MAX as usize;

/// y = max(0, pool(w ∗ x + b)): `x` (n, c, h, w) → (n, k, h', w'), in the type of `x`.
///
/// The pool runs before the ReLU, which leaves the same values and gradients a quarter of the work: a window's
/// maximum is positive where the ReLU's is, and lies in the same place.
pub(super) fn layer(x: &Tensor, weight: &Tensor, bias: &Tensor, pools: bool) -> Result<Tensor> {
    check_size(x.dims4()?, weight.dim(0)?)?;
    let x = x.contiguous()?;
    let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
    let arguments = [&x, &weight, &bias];
    let tracked = arguments.iter().any(|argument| argument.track_op());

    let y = convolve(&x.detach(), &weight.detach(), SCRATCH)?;
    let (_, _, h, w) = y.dims4()?;
    let y = y.broadcast_add(&bias.detach().reshape((1, (), 1, 1))?)?;
    let (y, places) = if pools {
        let pooled = pool::max(&y, tracked)?;
        (pooled.values, pooled.places)
    } else {
        (y, None)
    };
    let y = super::relu(&y)?;
    precomputed(y, arguments, move |[x, weight, _], y, g, wanted| {
        let passes = y.gt(&y.zeros_like()?)?;
        let g = passes.where_cond(g, &g.zeros_like()?)?;
        let g = match &places {
            Some(places) => pool::scatter(&g, places, (h, w))?,
            None => g,
        };
        let [want_x, want_weight, want_bias] = wanted;
        Ok([
            want_x
                .then(|| convolve(&g, &rotated(weight)?, SCRATCH))
                .transpose()?,
            want_weight
                .then(|| weight_gradient::of(x, &g))
                .transpose()?,
            want_bias.then(|| bias_gradient(&g)).transpose()?,
        ])
    })
}

/// Refuses a batch that is too large for kernels on a GPU.
fn check_size((n, c, h, w): (usize, usize, usize, usize), k: usize) -> Result<()> {
    let pixels = h.saturating_mul(w).saturating_mul(c.max(k));
    if n.saturating_mul(pixels) > COUNTABLE {
        let advice = match COUNTABLE / pixels {
            0 => "make them smaller".to_owned(),
            most => format!("make batches of at most {most}"),
        };
        bail!(
            "{n} pictures of {h}x{w} pixels in {} channels are more numbers than can be counted on a GPU; {advice}",
            c.max(k)
        );
    }
    Ok(())
}

/// How many numbers a picture (c, h, w) is when it is unrolled. candle's kernel for that has no more than 32 bits to
/// count them, and leaves out the others.
fn unrolled((c, h, w): (usize, usize, usize)) -> Result<usize> {
    let numbers = 9usize.saturating_mul(c.saturating_mul(h).saturating_mul(w));
    if u32::try_from(numbers).is_err() {
        bail!(
            "a picture of {h}x{w} pixels in {c} channels is too large for the matrix that a GPU makes of it; make it \
             smaller, or build with the feature `cudnn`"
        );
    }
    Ok(numbers)
}

/// w ∗ x, stride 1, padding 1. Without cuDNN pictures are unrolled into matrices of at most `scratch` bytes, but at least
/// one picture at a time.
fn convolve(x: &Tensor, weight: &Tensor, scratch: usize) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if super::cudnn::takes(x) {
        return super::cudnn::convolve(x, weight);
    }
    let (n, c, h, w) = x.dims4()?;
    let bytes = unrolled((c, h, w))? * x.dtype().size_in_bytes();
    let group = (scratch / bytes.max(1)).max(1);
    if n <= group {
        return x.conv2d(weight, 1, 1, 1, 1);
    }
    let groups = (0..n).step_by(group).map(|at| {
        let pictures = x.narrow(0, at, group.min(n - at))?;
        pictures.conv2d(weight, 1, 1, 1, 1)
    });
    Tensor::cat(&groups.collect::<Result<Vec<_>>>()?, 0)
}

/// The kernel that takes the gradient of a convolution's output to that of its input: (k, c, 3, 3) → (c, k, 3, 3).
fn rotated(weight: &Tensor) -> Result<Tensor> {
    let (k, c, _, _) = weight.dims4()?;
    // To turn the nine by 180° is to count them backwards.
    let turned = weight.contiguous()?.reshape((k, c, 9))?.flip(&[2])?;
    turned.reshape((k, c, 3, 3))?.transpose(0, 1)?.contiguous()
}

/// Σ g over pictures and pixels. The sums over pixels are added up in f32 where `g` has fewer bits.
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
    fn a_batch_that_cannot_be_counted_is_refused() {
        check_size((668, 3, 224, 224), 64).expect("2,145,124,352 numbers");
        let error = check_size((669, 3, 224, 224), 64).expect_err("2,148,335,616 numbers");
        assert!(error.to_string().contains("at most 668"), "{error}");
        let error = check_size((1, 3, 6000, 6000), 64).expect_err("2,304,000,000 numbers");
        assert!(error.to_string().contains("smaller"), "{error}");
    }

    #[test]
    fn a_picture_that_cannot_be_unrolled_is_refused() {
        assert_eq!(unrolled((64, 2730, 2730)).expect("it can"), 4_292_870_400);
        let error = unrolled((64, 2731, 2731)).expect_err("4,296,015,936 numbers");
        assert!(error.to_string().contains("smaller"), "{error}");
    }

    #[test]
    fn pictures_in_groups_are_all_pictures() {
        let x = Tensor::arange(0f32, 5. * 3. * 4. * 6., &Device::Cpu).expect("x");
        let x = x.reshape((5, 3, 4, 6)).expect("x");
        let weight = Tensor::arange(0f32, 2. * 27., &Device::Cpu).expect("weight");
        let weight = weight.reshape((2, 3, 3, 3)).expect("weight");
        let values = |scratch| {
            let y = convolve(&x, &weight, scratch).expect("a convolution");
            assert_eq!(y.dims(), [5, 2, 4, 6]);
            y.flatten_all()
                .and_then(|y| y.to_vec1::<f32>())
                .expect("f32")
        };
        let whole = values(usize::MAX);
        // Two pictures of 9·3·4·6 numbers at a time; one at a time where not even one fits.
        assert_eq!(values(2 * 9 * 72 * 4), whole);
        assert_eq!(values(1), whole);
    }
}
