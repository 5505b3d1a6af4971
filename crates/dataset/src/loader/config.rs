//! The settings of a loader.

use candle_core::Device;

use crate::decode::DecodeOptions;
use crate::error::{Error, Result};
use crate::transform::{Normalize, Transform};

/// How a [`Loader`](super::Loader) makes batches.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Images in a batch; the last of an epoch may have fewer.
    pub batch_size: usize,
    /// Worker threads. With 0, batches are made in the calling thread when they are asked for.
    pub workers: usize,
    /// Batches that may be made ahead, besides the one that each worker works on.
    pub prefetch: usize,
    /// What shuffling and augmentation are derived from, together with the epoch and the sample.
    pub seed: u64,
    /// Whether each epoch visits the samples in an order of its own.
    pub shuffle: bool,
    /// What becomes of each image.
    pub transform: Transform,
    /// Mean and standard deviation of each channel.
    pub normalize: Normalize,
    /// Where the tensors live.
    pub device: Device,
    /// Bytes of decoded images that may be kept between epochs; images beyond are decoded each time.
    pub cache_bytes: usize,
    /// How files are decoded.
    pub decode: DecodeOptions,
}

impl LoaderConfig {
    /// Shuffled, augmented batches of `size` × `size` pixels.
    pub fn train(size: u32) -> Self {
        Self {
            shuffle: true,
            transform: Transform::train(size),
            ..Self::eval(size)
        }
    }

    /// The middle of each image as `size` × `size` pixels, in the order of the samples.
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
        at_least_one("the batch size", self.batch_size)?;
        at_least_one(
            "the size of the network's input",
            self.transform.size() as usize,
        )?;
        if let Transform::Eval { resize, .. } = self.transform {
            at_least_one("the size that images are resized to", resize as usize)?;
        }
        // A batch's number of values must be a number; whether there is memory for it is another question.
        let side = self.transform.size() as usize;
        let values = side
            .checked_mul(side)
            .and_then(|n| n.checked_mul(3))
            .and_then(|n| n.checked_mul(self.batch_size));
        if side > 1 << 14 || values.is_none_or(|values| values > isize::MAX as usize / 4) {
            return Err(Error::Setting {
                setting: "the size of a batch",
                value: format!("{} images of {side} × {side}", self.batch_size),
                expected: "at most what can be addressed, with images of at most 16384 × 16384",
            });
        }
        self.normalize.check()
    }
}
