//! Loaders for the train and val splits of a data set.

use anyhow::Context;
use candle_core::Device;
use dataset::transform::Normalize;
use dataset::{Loader, LoaderConfig, Sample};

use crate::bad_images;
use crate::config::Config;
use crate::data_source::Folder;
use crate::plots;
use crate::run_dir::RunDir;

/// The data loaders for training and validation.
pub struct Splits {
    /// Train images, shuffled and randomly augmented in each epoch.
    pub train: Loader,
    /// Val images, in order and without augmentation.
    pub val: Loader,
}

impl Splits {
    /// Creates the loaders of a run for `folder`.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range.
    pub fn new(
        config: &Config,
        folder: &Folder,
        normalize: Normalize,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let size =
            u32::try_from(config.network.input_size).context("the input size is too large")?;
        let budget = usize::try_from(config.machine.cache_images).unwrap_or(usize::MAX);
        // Divide the cache between the splits in proportion to their image counts.
        let share =
            |images: usize| (budget as f64 * images as f64 / folder.images() as f64) as usize;
        let decode = config.decode_options();
        let loader = |samples: &[Sample], split: LoaderConfig| {
            let split = split
                .batch_size(config.training.batch_size)
                .workers(config.machine.workers)
                .seed(config.training.seed)
                .normalize(normalize)
                .device(device.clone())
                .cache_bytes(share(samples.len()))
                .detect_changes(true)
                .decode(decode.clone());
            #[cfg(feature = "fault-injection")]
            let split = split.decode_with(crate::fault_injection::decode);
            Loader::new(samples, split)
        };
        Ok(Self {
            train: loader(folder.train.samples(), LoaderConfig::train(size))?,
            val: loader(folder.val.samples(), LoaderConfig::eval(size))?,
        })
    }

    /// Decodes all images, so that errors are reported before training starts and not in a later
    /// epoch.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all images that cannot be decoded, or an error if a thread
    /// cannot be started.
    pub fn verify(&self, folder: &Folder) -> anyhow::Result<()> {
        let mut bad = Vec::new();
        for split in [&self.train, &self.val] {
            match split.preload() {
                Ok(()) => {}
                Err(dataset::Error::BadImages { errors, .. }) => bad.extend(errors),
                Err(error) => return Err(error.into()),
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        Err(bad_images::refusal(bad, folder.images()))
    }

    /// Draws the first training batch with its augmentation to `train_batch.png`.
    ///
    /// # Errors
    ///
    /// Returns an error if the batch cannot be loaded or the file cannot be written.
    pub fn draw_batch(&self, folder: &Folder, run: &RunDir) -> anyhow::Result<()> {
        let batch = self
            .train
            .epoch(1)
            .next()
            .context("the train split has no batches")??;
        let normalize = self.train.config().normalize;
        run.write(
            "train_batch.png",
            &plots::batch::draw(&batch, folder.classes(), normalize)?,
        )
    }
}
