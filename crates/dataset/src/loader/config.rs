//! Loader settings, their defaults and validation.

use std::fmt;
use std::sync::Arc;

use candle_core::Device;
use image::RgbImage;

use crate::decode::{DecodeOptions, Decoder};
use crate::error::{Error, Result};
use crate::image_folder::Sample;
use crate::rng::Stream;
use crate::transform::{Normalize, Transform};

/// Settings for a [`Loader`](super::Loader).
#[derive(Clone, Debug)]
#[non_exhaustive]
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
    /// Whether an image that changes after it was first read is [`Error::Changed`] as soon as it is
    /// read again. Computes the SHA-256 of each file that is read. Files that a function passed to
    /// [`decode_with`](Self::decode_with) reads without the decoder are not checked.
    pub detect_changes: bool,
    /// Decoder settings.
    pub decode: DecodeOptions,
    pub(super) decoder: Callback<DecodeFn>,
    pub(super) augmentation: Option<Callback<AugmentFn>>,
}

/// A function that decodes a sample, as [`LoaderConfig::decode_with`] describes.
type DecodeFn = dyn Fn(&mut Decoder, &Sample, RgbImage) -> Result<RgbImage> + Send + Sync;

/// A function that changes an image, as [`LoaderConfig::augment`] describes.
type AugmentFn = dyn Fn(&mut RgbImage, &mut Stream) + Send + Sync;

/// A shared function.
pub(super) struct Callback<F: ?Sized>(pub(super) Arc<F>);

impl<F: ?Sized> Clone for Callback<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl LoaderConfig {
    /// Settings for training: random order, random crops resized to `size` × `size` pixels, random
    /// flips. The other defaults are those of [`eval`](Self::eval).
    pub fn train(size: u32) -> Self {
        Self {
            shuffle: true,
            transform: Transform::train(size),
            ..Self::eval(size)
        }
    }

    /// Settings for validation: center crops of `size` × `size` pixels, in the order of the
    /// samples.
    ///
    /// The other defaults are batches of 32, 4 workers, 2 prefetched batches, seed 1234, ImageNet
    /// normalization, the CPU, a cache of 1 GiB, and no detection of changes.
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
            detect_changes: false,
            decode: DecodeOptions::default(),
            decoder: Callback(Arc::new(|decoder, sample, reuse| {
                decoder.decode(&sample.path, reuse)
            })),
            augmentation: None,
        }
    }

    setters! {
        batch_size: usize,
        workers: usize,
        prefetch: usize,
        seed: u64,
        shuffle: bool,
        transform: Transform,
        normalize: Normalize,
        device: Device,
        cache_bytes: usize,
        detect_changes: bool,
        decode: DecodeOptions,
    }

    /// Decodes the samples with `decode` instead of [`Decoder::decode`], for other formats or
    /// sources.
    ///
    /// The function gets a decoder with the [`decode`](Self::decode) options, the sample, and an
    /// image whose buffer it may reuse. The result must be a function of the sample, because it may
    /// be cached. The function may return [`Error::Custom`] for errors of its own. A panic becomes
    /// [`Error::Panic`].
    ///
    /// Decode every file with this decoder. Clones of the same options share its
    /// [memory](DecodeOptions::max_bytes) and could wait forever for the image that it holds.
    #[must_use]
    pub fn decode_with(
        self,
        decode: impl Fn(&mut Decoder, &Sample, RgbImage) -> Result<RgbImage> + Send + Sync + 'static,
    ) -> Self {
        Self {
            decoder: Callback(Arc::new(decode)),
            ..self
        }
    }

    /// Calls `augment` on every image between the transform and the normalization.
    ///
    /// The image has `size` × `size` pixels, and a change of its size is
    /// [`Error::AugmentedSize`]. The stream is [`Stream::new`] of the seed, the epoch and the
    /// sample, after the draws of the transform. A panic becomes [`Error::Panic`].
    #[must_use]
    pub fn augment(
        self,
        augment: impl Fn(&mut RgbImage, &mut Stream) + Send + Sync + 'static,
    ) -> Self {
        Self {
            augmentation: Some(Callback(Arc::new(augment))),
            ..self
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
