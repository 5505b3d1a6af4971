//! How one batch is made: everything that workers share, and what each has for itself.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use super::cache::Cache;
use super::config::LoaderConfig;
use super::guard::guarded;
use crate::decode::Decoder;
use crate::error::Result;
use crate::image_folder::Sample;
use crate::random::{self, Domain};
use crate::transform::{Resampler, Table};

/// What all workers and epochs of a loader share.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) samples: Arc<[Sample]>,
    pub(super) config: LoaderConfig,
    pub(super) cache: Cache,
    table: Table,
    decode: DecodeFn,
}

/// Decodes a file into recycled memory, as [`Decoder::decode`] does.
pub type DecodeFn = fn(&mut Decoder, &Path, RgbImage) -> Result<RgbImage>;

/// What a worker has for itself: buffers that it uses again for every picture.
#[derive(Debug)]
pub(super) struct Worker {
    decoder: Decoder,
    scratch: RgbImage,
    resampler: Resampler,
}

impl Recipe {
    pub(super) fn new(samples: &[Sample], config: LoaderConfig, decode: DecodeFn) -> Self {
        Self {
            samples: samples.into(),
            cache: Cache::new(samples.len(), config.cache_bytes),
            table: Table::new(config.normalize),
            config,
            decode,
        }
    }

    pub(super) fn worker(&self) -> Worker {
        Worker {
            decoder: Decoder::new(self.config.decode.clone()),
            scratch: RgbImage::default(),
            resampler: Resampler::default(),
        }
    }

    /// The pictures of a batch as (samples, 3, size, size), one after the other.
    ///
    /// When `stopped` says so, the rest is left out: nobody waits for the batch any more.
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
            self.guarded(sample, || {
                let picture = self.picture(worker, sample)?;
                let mut rng =
                    random::stream(Domain::Augment, self.config.seed, epoch, sample as u64);
                let plan =
                    self.config
                        .transform
                        .plan(picture.0.width(), picture.0.height(), &mut rng);
                self.table
                    .append(picture.1.apply(picture.0, &plan)?.as_raw(), &mut values);
                Ok(())
            })?;
        }
        Ok(values)
    }

    /// Decodes a sample and keeps it if there is room.
    pub(super) fn load(&self, worker: &mut Worker, sample: usize) -> Result<()> {
        self.guarded(sample, || self.picture(worker, sample).map(drop))
    }

    /// The sample's picture, and the part of the worker that is free meanwhile.
    fn picture<'a>(
        &'a self,
        worker: &'a mut Worker,
        sample: usize,
    ) -> Result<(&'a RgbImage, &'a mut Resampler)> {
        let Worker {
            decoder,
            scratch,
            resampler,
        } = worker;
        let path = &self.samples[sample].path;
        let picture = self
            .cache
            .get(sample, scratch, |reuse| (self.decode)(decoder, path, reuse))?;
        Ok((picture, resampler))
    }

    fn guarded<T>(&self, sample: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        guarded(
            || format!("`{}`", self.samples[sample].path.display()),
            work,
        )
    }
}
