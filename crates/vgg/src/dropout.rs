//! Dropout whose mask is a pure function of (seed, step, layer).
//!
//! y = x·m / (1 − p), m Bernoulli(1 − p) per element (inverted dropout, as `torch.nn.Dropout`). The masks differ
//! from PyTorch's, which come from one generator in the order of calls; here a step can be computed again, alone
//! and on any device, and gives the same mask: it is drawn on the host and sent as one byte an element (131 KB a
//! layer for 32 pictures in VGG-16).

use candle_core::{Result, Tensor};
use rand_chacha::rand_core::Rng;

use crate::random::keyed;

/// The probability of the dropout in VGG's classifier.
pub(crate) const HALF: f32 = 0.5;

/// Drops half of `x`: (B, …) → (B, …), f32. Element i in row-major order draws bit i of the stream.
///
/// Errors: candle's.
pub(crate) fn dropout_half(x: &Tensor, seed: u64, step: u64, layer: u64) -> Result<Tensor> {
    let mut rng = keyed(b"dropout\0", [seed, step, layer]);
    let mut bits = 0u32;
    let mask: Vec<u8> = (0..x.elem_count())
        .map(|at| {
            if at % 32 == 0 {
                bits = rng.next_u32();
            }
            let kept = bits & 1;
            bits >>= 1;
            kept as u8
        })
        .collect();
    let mask = Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?;
    x * (mask / f64::from(1.0 - HALF))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn mask(seed: u64, step: u64, layer: u64) -> Vec<f32> {
        let ones = Tensor::ones((32, 1000), DType::F32, &Device::Cpu).expect("ones");
        let dropped = dropout_half(&ones, seed, step, layer).expect("dropout");
        dropped.flatten_all().expect("flat").to_vec1().expect("f32")
    }

    #[test]
    fn half_is_kept_and_doubled() {
        let mask = mask(1, 2, 3);
        assert!(mask.iter().all(|&m| m == 0.0 || m == 2.0));
        // 32,000 fair draws: the mean is 1 within five standard deviations (1/√32000).
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!(
            (mean - 1.0).abs() < 5.0 / (mask.len() as f32).sqrt(),
            "{mean}"
        );
    }

    #[test]
    fn the_mask_depends_on_seed_step_and_layer_alone() {
        assert_eq!(mask(1, 2, 3), mask(1, 2, 3));
        for other in [mask(0, 2, 3), mask(1, 0, 3), mask(1, 2, 0)] {
            assert_ne!(mask(1, 2, 3), other);
        }
    }
}
