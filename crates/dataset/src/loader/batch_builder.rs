//! Decodes, transforms and normalizes the images of a batch.

use std::sync::{Arc, OnceLock};

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::config::LoaderConfig;
use crate::decode::{self, Decoder};
use crate::error::{Error, Result};
use crate::image_folder::Sample;
use crate::panic::catch_panic;
use crate::resample::Resampler;
use crate::rng::Stream;
use crate::transform::Table;

/// State shared by all workers and epochs of a loader.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    pub(super) samples: Arc<[Sample]>,
    pub(super) config: LoaderConfig,
    pub(super) cache: Cache,
    /// SHA-256 of each file when it was first read, with [`LoaderConfig::detect_changes`].
    pub(super) hashes: Vec<OnceLock<[u8; 32]>>,
    table: Table,
}

/// Buffers of one worker, reused for every image.
#[derive(Debug)]
pub(super) struct Worker {
    decoder: Decoder,
    scratch: RgbImage,
    resampler: Resampler,
}

impl Worker {
    /// Releases the memory of the last image.
    fn release(&mut self) {
        self.decoder.release();
        decode::drop_large(&mut self.scratch);
    }
}

impl BatchBuilder {
    pub(super) fn new(samples: &[Sample], config: LoaderConfig) -> Self {
        Self {
            samples: samples.into(),
            cache: Cache::new(samples.len(), config.cache_bytes),
            hashes: samples.iter().map(|_| OnceLock::new()).collect(),
            table: Table::new(config.normalize),
            config,
        }
    }

    pub(super) fn worker(&self) -> Worker {
        Worker {
            decoder: Decoder::holding(self.config.decode.clone()),
            scratch: RgbImage::default(),
            resampler: Resampler::default(),
        }
    }

    /// Builds the values of a batch, shape (samples, 3, size, size).
    ///
    /// Returns an incomplete batch if `stopped` returns true, because the batch is no longer
    /// needed.
    pub(super) fn batch(
        &self,
        worker: &mut Worker,
        epoch: u64,
        samples: &[usize],
        stopped: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        let side = self.config.transform.size() as usize;
        let mut values = Vec::with_capacity(samples.len() * 3 * side * side);
        for &sample in samples {
            if stopped() {
                break;
            }
            let result = self.catch_panic(sample, || {
                let (image, resampler) = self.image(worker, sample)?;
                let mut stream = Stream::new(self.config.seed, epoch, sample as u64);
                let transform = self.config.transform;
                let plan = transform.plan(image.width(), image.height(), &mut stream);
                let square = resampler.apply(image, &plan)?;
                if let Some(augment) = &self.config.augmentation {
                    augment.0(square, &mut stream);
                    self.check_size(sample, square)?;
                }
                self.table.append(square.as_raw(), &mut values);
                Ok(())
            });
            // Also after an error: other workers may wait for the memory.
            worker.release();
            result?;
        }
        Ok(values)
    }

    fn check_size(&self, sample: usize, image: &RgbImage) -> Result<()> {
        let (size, (width, height)) = (self.config.transform.size(), image.dimensions());
        if (width, height) == (size, size) {
            return Ok(());
        }
        Err(Error::AugmentedSize {
            path: self.samples[sample].path.clone(),
            size,
            width,
            height,
        })
    }

    /// Decodes a sample that is not cached, and caches it if it fits.
    pub(super) fn load(&self, worker: &mut Worker, sample: usize) -> Result<()> {
        let result = self.catch_panic(sample, || self.image(worker, sample).map(drop));
        worker.release();
        result
    }

    /// Returns the image of a sample, and the resampler of `worker` as a separate borrow.
    fn image<'a>(
        &'a self,
        worker: &'a mut Worker,
        sample: usize,
    ) -> Result<(&'a RgbImage, &'a mut Resampler)> {
        let Worker {
            decoder,
            scratch,
            resampler,
        } = worker;
        let image = self.cache.get(sample, scratch, |reuse| {
            decoder.forget();
            let image = (self.config.decoder.0)(decoder, &self.samples[sample], reuse);
            self.check_unchanged(sample, decoder.bytes(), image)
        })?;
        Ok((image, resampler))
    }

    /// Returns `image`, the result of decoding the file contents `bytes`, or an error if the file is
    /// not the one that was first read.
    fn check_unchanged(
        &self,
        sample: usize,
        bytes: &[u8],
        image: Result<RgbImage>,
    ) -> Result<RgbImage> {
        if !self.config.detect_changes {
            return image;
        }
        let slot = &self.hashes[sample];
        let is_changed = match &image {
            Ok(_) if bytes.is_empty() => false,
            Ok(_) => {
                let hash = Sha256::digest(bytes).into();
                *slot.get_or_init(|| hash) != hash
            }
            // The operating system's message is more specific.
            Err(Error::Io { .. }) => false,
            // A file that could be decoded before is another one now.
            Err(_) => slot.get().is_some(),
        };
        match is_changed {
            true => Err(Error::Changed {
                path: self.samples[sample].path.clone(),
            }),
            false => image,
        }
    }

    fn catch_panic<T>(&self, sample: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_panic(|| self.samples[sample].path.display().to_string(), work)
    }
}
