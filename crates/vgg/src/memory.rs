//! Estimates the memory for activations, so that a model that needs too much is refused before it is
//! allocated.

use crate::config::{Unit, VggConfig};

/// Maximum of [`VggConfig::image_bytes`] for a model file. VGG-16 needs 10 GiB at 3072 pixels.
pub const MAX_IMAGE_BYTES: u64 = 16 << 30;

/// Bytes of an f32.
const F32: u64 = 4;
/// The CPU kernels store channels in blocks of this size.
const CHANNEL_BLOCK: u64 = 16;

impl VggConfig {
    /// Estimates the memory in bytes for the activations of one image of [`VggConfig::input_size`]: the
    /// input, the outputs of all convolutions, the output of the backbone and the logits. Saturates.
    pub fn image_bytes(&self) -> u64 {
        let (mut size, mut channels) = (self.input_size, 3);
        let mut total = bytes(size, channels);
        for unit in &self.features {
            match *unit {
                Unit::Conv(width) => {
                    channels = (width as u64)
                        .max(1)
                        .checked_next_multiple_of(CHANNEL_BLOCK)
                        .unwrap_or(u64::MAX);
                    total = total.saturating_add(bytes(size, channels));
                }
                Unit::Pool => size /= 2,
            }
        }
        total
            .saturating_add(bytes(size, channels))
            .saturating_add((self.classes as u64).saturating_mul(F32))
    }
}

/// The bytes of a (channels, size, size) tensor.
fn bytes(size: usize, channels: u64) -> u64 {
    let size = size as u64;
    size.saturating_mul(size)
        .saturating_mul(channels)
        .saturating_mul(F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_count_the_activations_of_vgg16() {
        // 13 convolutions: 2 of 64 channels at 224 pixels, 2 of 128 at 112, 3 of 256 at 56, 3 of 512
        // at 28, and 3 of 512 at 14.
        let values = 2 * 64 * 224 * 224 + 2 * 128 * 112 * 112 + 3 * 256 * 56 * 56;
        let layers = values + 3 * 512 * (28 * 28 + 14 * 14);
        let (input, output) = (3 * 224 * 224, 512 * 7 * 7 + 2);
        let bytes = 4 * (input + layers + output);
        assert_eq!(VggConfig::vgg16(2).image_bytes(), bytes);
    }

    #[test]
    fn estimates_of_huge_networks_saturate() {
        let huge = VggConfig {
            input_size: usize::MAX,
            classes: usize::MAX,
            features: vec![Unit::Conv(usize::MAX); 3],
            ..VggConfig::vgg16(2)
        };
        assert_eq!(huge.image_bytes(), u64::MAX);
    }
}
