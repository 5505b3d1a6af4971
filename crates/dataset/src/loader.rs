//! Batches of decoded, transformed and normalized images, prefetched by worker threads.
//!
//! The pixel values of a sample are a function of (seed, epoch, index of the sample), and the order
//! of an epoch is a function of (seed, epoch). Neither depends on the number of workers, the cache or
//! timing, provided that the caller's own functions are deterministic.
//!
//! Batches are delivered in order. The last batch of an epoch may be smaller. The number of
//! prefetched batches is bounded.

mod batch_builder;
mod cache;
mod config;
mod epoch;
mod ordered_pool;

pub use config::LoaderConfig;
pub use epoch::{Batch, Epoch};

use std::sync::Arc;

use crate::error::Result;
use crate::image_folder::Sample;
use crate::rng::Stream;
use crate::verify;
use batch_builder::BatchBuilder;

/// Loads the images of one split in batches.
///
/// Clones are cheap and share the cache of decoded images.
#[derive(Clone, Debug)]
pub struct Loader {
    builder: Arc<BatchBuilder>,
}

impl Loader {
    /// Creates a loader for `samples` without reading any file.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range: a batch, input or resize size of 0, an input
    /// size or batch that is too large, a mean or standard deviation that is not finite, or a
    /// standard deviation that is not positive.
    pub fn new(samples: &[Sample], config: LoaderConfig) -> Result<Self> {
        config.check()?;
        Ok(Self {
            builder: Arc::new(BatchBuilder::new(samples, config)),
        })
    }

    /// Number of batches per epoch, including a smaller last one.
    pub fn batches(&self) -> usize {
        self.samples().len().div_ceil(self.config().batch_size)
    }

    /// The samples, indexed by [`Batch::indices`].
    pub fn samples(&self) -> &[Sample] {
        &self.builder.samples
    }

    /// The settings of the loader.
    pub fn config(&self) -> &LoaderConfig {
        &self.builder.config
    }

    /// The SHA-256 of each sample's file when it was first read. `None` if it has not been read yet, or
    /// without [`LoaderConfig::detect_changes`].
    pub fn hashes(&self) -> impl Iterator<Item = Option<[u8; 32]>> {
        let hashes = self.builder.hashes.iter();
        hashes.map(|hash| hash.get().copied())
    }

    /// Returns the indices of the samples in the order of `epoch`. With [`LoaderConfig::shuffle`], the
    /// seed and the epoch determine the order; otherwise it is 0, 1, 2, ….
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let count = self.samples().len();
        if !self.config().shuffle {
            return (0..count).collect();
        }
        Stream::of_order(self.config().seed, epoch).permutation(count)
    }

    /// Starts the workers for `epoch` and returns its batches. Dropping the iterator stops the
    /// workers. If a worker cannot be started, the first item is
    /// [`Error::Spawn`](crate::Error::Spawn).
    pub fn epoch(&self, epoch: u64) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// Like [`epoch`](Self::epoch), but skips the batches before `first` without loading them.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Epoch {
        Epoch::start(self, epoch, first)
    }

    /// Decodes every image and fills the cache.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadImages`](crate::Error::BadImages) with the error of each image that
    /// fails, or [`Error::Spawn`](crate::Error::Spawn) if a thread cannot be started.
    pub fn preload(&self) -> Result<()> {
        let builder = &self.builder;
        let bad = verify::for_each_index(
            builder.samples.len(),
            self.config().workers,
            || builder.worker(),
            |worker, sample| builder.load(worker, sample),
        )?;
        verify::fail_if_any(bad, builder.samples.len())
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::error::Error;

    #[test]
    fn a_panic_is_an_error_with_the_path_and_ends_the_epoch() {
        let samples: Vec<Sample> = (0..12)
            .map(|i| Sample {
                path: format!("{i}.jpg").into(),
                label: 0,
            })
            .collect();
        for workers in [0, 1, 3] {
            let config = LoaderConfig::eval(8)
                .batch_size(2)
                .workers(workers)
                .decode_with(|_, sample, _| {
                    assert!(!sample.path.ends_with("5.jpg"), "index out of bounds");
                    Ok(RgbImage::from_pixel(30, 20, image::Rgb([9; 3])))
                });
            let loader = Loader::new(&samples, config).unwrap();
            let results: Vec<_> = loader.epoch(0).collect();
            assert_eq!(results.len(), 3, "expected two batches and the error");
            match results.into_iter().last() {
                Some(Err(Error::Panic { item, message })) => {
                    assert!(
                        item.contains("5.jpg") && message.contains("index out of bounds"),
                        "{item}: {message}"
                    );
                }
                other => panic!("{other:?}"),
            }
            match loader.preload() {
                Err(Error::BadImages {
                    errors,
                    checked: 12,
                }) => {
                    assert!(matches!(&errors[..], [Error::Panic { .. }]), "{errors:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
