//! Estimates of the memory for activations, so that a model that needs too much is rejected before
//! it is allocated.

use crate::config::{Unit, VggConfig};

/// Maximum estimate in bytes for one image in a model file. VGG-16 needs 10 GiB at 3072 pixels.
pub(crate) const MAX_IMAGE_BYTES: u64 = 16 << 30;

/// Bytes of an f32.
const F32: u64 = 4;
/// The CPU kernels store channels in blocks of this size.
const CHANNEL_BLOCK: u64 = 16;

impl VggConfig {
    /// Estimates the memory in bytes for the activations of one forward pass in inference, for a
    /// batch of images of [`VggConfig::input_size`]: the input and output of the backbone for the
    /// whole batch, and all layers between them for one image. Saturates.
    pub fn inference_bytes(&self, batch: usize) -> u64 {
        let (layers, output) = self.activations();
        let per_image = self.input_bytes().saturating_add(output);
        layers.saturating_add(per_image.saturating_mul(batch as u64))
    }

    /// Estimates the memory in bytes for the activations of one training step, which keeps the
    /// outputs of all layers for the backward pass. Saturates.
    pub fn training_bytes(&self, batch: usize) -> u64 {
        let (layers, _) = self.activations();
        let per_image = self.input_bytes().saturating_add(layers);
        per_image.saturating_mul(batch as u64)
    }

    fn input_bytes(&self) -> u64 {
        plane(self.input_size).saturating_mul(3 * F32)
    }

    /// The bytes of the outputs of all convolutions for one image, and of the output of the backbone
    /// and the logits.
    fn activations(&self) -> (u64, u64) {
        let (mut size, mut channels) = (self.input_size, 3);
        let mut layers = 0u64;
        for unit in &self.features {
            match *unit {
                Unit::Conv(width) => {
                    channels = (width as u64)
                        .max(1)
                        .checked_next_multiple_of(CHANNEL_BLOCK)
                        .unwrap_or(u64::MAX);
                    layers = layers.saturating_add(bytes(size, channels));
                }
                Unit::Pool => size /= 2,
            }
        }
        let logits = (self.classes as u64).saturating_mul(F32);
        (layers, bytes(size, channels).saturating_add(logits))
    }
}

fn plane(size: usize) -> u64 {
    (size as u64).saturating_mul(size as u64)
}

fn bytes(size: usize, channels: u64) -> u64 {
    plane(size).saturating_mul(channels).saturating_mul(F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_count_the_activations_of_vgg16() {
        let config = VggConfig::vgg16(2);
        // 13 convolutions: 2 of 64 channels at 224 pixels, 2 of 128 at 112, 3 of 256 at 56, 3 of 512
        // at 28, and 3 of 512 at 14.
        let values = 2 * 64 * 224 * 224 + 2 * 128 * 112 * 112 + 3 * 256 * 56 * 56;
        let layers = 4 * (values + 3 * 512 * (28 * 28 + 14 * 14));
        let input = 4 * 3 * 224 * 224;
        assert_eq!(config.training_bytes(5), 5 * (layers + input));
        let output = 4 * (512 * 7 * 7 + 2);
        assert_eq!(config.inference_bytes(5), layers + 5 * (input + output));
    }

    #[test]
    fn estimates_of_huge_networks_saturate() {
        let huge = VggConfig {
            input_size: usize::MAX,
            classes: usize::MAX,
            features: vec![Unit::Conv(usize::MAX); 3],
            ..VggConfig::vgg16(2)
        };
        assert_eq!(huge.inference_bytes(usize::MAX), u64::MAX);
        assert_eq!(huge.training_bytes(usize::MAX), u64::MAX);
    }
}
