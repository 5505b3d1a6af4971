//! Both splits of a data folder as batches for a network.

use anyhow::Context;
use candle_core::Device;
use dataset::{DecodeOptions, Loader, LoaderConfig, Sample};

use crate::args::TrainArgs;
use crate::bad_images;
use crate::data_source::Folder;
use crate::fault_injection;
use crate::initial_model::InitialModel;
use crate::plots;
use crate::run_dir::RunDir;

/// Both splits as batches.
pub struct Splits {
    /// What the network learns from: shuffled, cut and turned anew in each epoch.
    pub train: Loader,
    /// What it is judged by.
    pub val: Loader,
}

impl Splits {
    /// The batches of `folder` as the network of `start` wants them.
    ///
    /// # Errors
    ///
    /// A setting outside its range.
    pub fn new(
        args: &TrainArgs,
        folder: &Folder,
        start: &InitialModel,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let size = u32::try_from(start.config.input_size).context("the input size is too large")?;
        let budget = usize::try_from(args.cache_images.get()).unwrap_or(usize::MAX);
        // Both get the share of the memory that their pictures are of all.
        let share = |split: usize| (budget as f64 * split as f64 / folder.images() as f64) as usize;
        let loader = |samples: &[Sample], config: LoaderConfig| {
            let config = LoaderConfig {
                batch_size: args.batch_size.get(),
                workers: args.machine.workers.get(),
                seed: args.seed,
                normalize: start.normalize,
                device: device.clone(),
                cache_bytes: share(samples.len()),
                decode: DecodeOptions {
                    ignore_exif: args.machine.ignore_exif,
                    ..DecodeOptions::default()
                },
                ..config
            };
            Loader::with_decoder(samples, config, fault_injection::decode)
        };
        Ok(Self {
            train: loader(folder.train.samples(), LoaderConfig::train(size))?,
            val: loader(folder.val.samples(), LoaderConfig::eval(size))?,
        })
    }

    /// Decodes every picture once: one that cannot be is known now, not in epoch 7. All of them are listed.
    ///
    /// # Errors
    ///
    /// The pictures that cannot be decoded.
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

    /// `train_batch.png`: the first batch that trains, as the network sees it.
    ///
    /// # Errors
    ///
    /// When the run directory cannot be written to.
    pub fn draw_batch(&self, folder: &Folder, run: &RunDir) -> anyhow::Result<()> {
        let batch = self
            .train
            .epoch(1)
            .next()
            .context("there is no training batch")??;
        let normalize = self.train.config().normalize;
        run.write(
            "train_batch.png",
            &plots::batch::draw(&batch, folder.classes(), normalize)?,
        )
    }
}
