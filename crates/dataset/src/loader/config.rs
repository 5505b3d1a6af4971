//! Loader settings, their defaults and validation.

use candle_core::Device;

use crate::decode::DecodeOptions;
use crate::error::{Error, Result};
use crate::transform::{Normalize, Transform};

/// Settings for a [`Loader`](super::Loader).
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Number of images per batch. The last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Number of worker threads. With 0, the calling thread builds each batch on demand.
    pub workers: usize,
    /// Number of batches that workers may start ahead, in addition to one per worker. At most
    /// `workers + prefetch` batches are in progress or finished but not yet delivered.
    pub prefetch: usize,
    /// Seed for shuffling, combined with the epoch, and for augmentation, combined with the epoch
    /// and the sample.
    pub seed: u64,
    /// Whether to shuffle the samples, in a different order for each epoch.
    pub shuffle: bool,
    /// Crop, resize and flip of each image.
    pub transform: Transform,
    /// Mean and standard deviation per channel.
    pub normalize: Normalize,
    /// Device of the batch tensors.
    pub device: Device,
    /// Maximum size of the cache of decoded images, in bytes. Images that do not fit are decoded in
    /// every epoch.
    pub cache_bytes: usize,
    /// Decoder settings.
    pub decode: DecodeOptions,
}

impl LoaderConfig {
    /// Settings for training: random order, random crops of `size` × `size` pixels, random flips.
    pub fn train(size: u32) -> Self {
        Self {
            shuffle: true,
            transform: Transform::train(size),
            ..Self::eval(size)
        }
    }

    /// Settings for validation: center crops of `size` × `size` pixels, in the order of the
    /// samples.
    pub fn eval(size: u32) -> Self {
        Self {
            batch_size: 32,
            workers: 4,
            prefetch: 2,
            seed: 1234,
            shuffle: false,
            transform: Transform::eval(size),
            normalize: Normalize::IMAGENET,
            device: Device::Cpu,
            cache_bytes: 1 << 30,
            decode: DecodeOptions::default(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let at_least_one = |setting, value: usize| match value {
            0 => Err(Error::Setting {
                setting,
                value: "0".into(),
                expected: "at least 1",
            }),
            _ => Ok(()),
        };
        at_least_one("batch size", self.batch_size)?;
        at_least_one("input size", self.transform.size() as usize)?;
        if let Transform::Eval { resize, .. } = self.transform {
            at_least_one("resize size", resize as usize)?;
        }
        // Prevents overflow in the size of a batch. The batch may still exceed the available
        // memory.
        let side = self.transform.size() as usize;
        let values = side
            .checked_mul(side)
            .and_then(|n| n.checked_mul(3))
            .and_then(|n| n.checked_mul(self.batch_size));
        if side > 1 << 14 || values.is_none_or(|values| values > isize::MAX as usize / 4) {
            return Err(Error::Setting {
                setting: "batch",
                value: format!("{} images of {side} × {side}", self.batch_size),
                expected: "at most 16384 × 16384 pixels per image and 2^63 bytes per batch",
            });
        }
        self.normalize.check()
    }
}
