//! Batches of decoded, transformed, normalized images, made by worker threads ahead of the consumer.
//!
//! What a sample looks like depends on (seed, epoch, sample) and the order of an epoch on (seed, epoch); the number
//! of workers, the cache and the timing change nothing. Batches come in order, the last one may be smaller, and the
//! number of batches that exist at a time is bounded.

mod batch_builder;
mod cache;
mod config;
mod epoch;
mod ordered_pool;
pub(crate) mod panic;

pub use config::LoaderConfig;
pub use epoch::{Batch, Epoch};

use std::sync::Arc;

use crate::decode::Decoder;
use crate::error::Result;
use crate::image_folder::Sample;
use crate::rng::{self, Domain};
use crate::verify;
use batch_builder::BatchBuilder;
pub use batch_builder::DecodeFn;

/// Makes epochs of batches from the images of one split.
///
/// Cloning is cheap and shares the cache of decoded images.
#[derive(Clone, Debug)]
pub struct Loader {
    builder: Arc<BatchBuilder>,
}

impl Loader {
    /// A loader of `samples`. Reads nothing yet.
    ///
    /// # Errors
    ///
    /// A setting outside its range: batch size or image size 0, a standard deviation that is not above 0.
    pub fn new(samples: &[Sample], config: LoaderConfig) -> Result<Self> {
        Self::with_decoder(samples, config, Decoder::decode)
    }

    /// A loader whose images come from `decode` instead of [`Decoder::decode`]: another format, another source. A
    /// panic of it becomes an error that names the image.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn with_decoder(
        samples: &[Sample],
        config: LoaderConfig,
        decode: DecodeFn,
    ) -> Result<Self> {
        config.check()?;
        Ok(Self {
            builder: Arc::new(BatchBuilder::new(samples, config, decode)),
        })
    }

    /// How many batches an epoch has; the last may be smaller.
    pub fn batches(&self) -> usize {
        self.samples().len().div_ceil(self.config().batch_size)
    }

    /// The images, in the order of their indices.
    pub fn samples(&self) -> &[Sample] {
        &self.builder.samples
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        &self.builder.config
    }

    /// The order in which an epoch visits the samples: a function of the seed and the epoch.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let count = self.samples().len();
        if !self.config().shuffle {
            return (0..count).collect();
        }
        rng::shuffled(
            &mut rng::stream(Domain::Order, self.config().seed, epoch, 0),
            count,
        )
    }

    /// The batches of an epoch. Its workers start at once and stop when it is dropped.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch from the batch `first` on: what [`epoch`](Self::epoch) gives after `first` batches.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Epoch {
        Epoch::start(self, epoch, first)
    }

    /// Decodes every image once and keeps what the cache has room for.
    ///
    /// # Errors
    ///
    /// [`Error::BadImages`](crate::Error::BadImages), with every image that cannot be used.
    pub fn preload(&self) -> Result<()> {
        let builder = &self.builder;
        let bad = verify::each(
            builder.samples.len(),
            self.config().workers,
            || builder.worker(),
            |worker, sample| builder.load(worker, sample),
        )?;
        verify::all_good(bad, builder.samples.len())
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::error::Error;

    /// A decoder with a bug that one of the files brings to light.
    fn with_a_bug(_: &mut Decoder, path: &std::path::Path, _: RgbImage) -> Result<RgbImage> {
        assert!(!path.ends_with("5.jpg"), "index out of bounds");
        Ok(RgbImage::from_pixel(30, 20, image::Rgb([9; 3])))
    }

    #[test]
    fn a_panic_names_the_image_and_ends_the_epoch() {
        let samples: Vec<Sample> = (0..12)
            .map(|i| Sample {
                path: format!("{i}.jpg").into(),
                label: 0,
            })
            .collect();
        for workers in [0, 1, 3] {
            let config = LoaderConfig {
                batch_size: 2,
                workers,
                ..LoaderConfig::eval(8)
            };
            let loader = Loader::with_decoder(&samples, config, with_a_bug).unwrap();
            let results: Vec<_> = loader.epoch(0).collect();
            assert_eq!(results.len(), 3, "two batches and the error");
            match results.into_iter().last() {
                Some(Err(Error::Panic { what, message })) => {
                    assert!(
                        what.contains("5.jpg") && message.contains("index out of bounds"),
                        "{what}: {message}"
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
