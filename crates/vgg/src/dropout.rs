//! Dropout with a mask that is a function of (seed, step, layer).
//!
//! ```text
//! y = x · m / (1 − p),   m ~ Bernoulli(1 − p) for each element
//! ```
//!
//! This is inverted dropout, as in `torch.nn.Dropout`. PyTorch draws all masks from one generator
//! in the order of calls. Here a repeated step has the same masks, even on another device. The host
//! draws each mask and copies it to the device with one byte per element, which is 131 KB per layer
//! for 32 images in VGG-16.

use candle_core::{Result, Tensor};
use rand_chacha::rand_core::Rng;

use crate::random::keyed;

/// The dropout probability p of VGG's classifier.
const P: f32 = 0.5;

/// Applies dropout with p = 0.5 to `x`, (B, …) → (B, …). The mask of element i in row-major order
/// is bit i of the random stream.
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
    x * (mask / f64::from(1.0 - P))?
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
    fn half_of_the_elements_are_kept_and_doubled() {
        let mask = mask(1, 2, 3);
        assert!(mask.iter().all(|&m| m == 0.0 || m == 2.0));
        // The mean of 32,000 samples has a standard deviation of 1/√32000. The tolerance is five
        // standard deviations.
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!(
            (mean - 1.0).abs() < 5.0 / (mask.len() as f32).sqrt(),
            "{mean}"
        );
    }

    #[test]
    fn the_mask_is_a_function_of_seed_step_and_layer() {
        assert_eq!(mask(1, 2, 3), mask(1, 2, 3));
        for other in [mask(0, 2, 3), mask(1, 0, 3), mask(1, 2, 0)] {
            assert_ne!(mask(1, 2, 3), other);
        }
    }
}
