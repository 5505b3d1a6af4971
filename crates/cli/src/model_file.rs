//! A trained model: found, loaded, and asked about pictures. The file is all that this needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{D, Device, Tensor};
use dataset::DecodeOptions;
use dataset::decode::Decoder;
use dataset::transform::{Normalize, Plan, Resampler, Transform};
use image::RgbImage;
use trainer::{Mode, Model as _, Params};
use vgg::Metadata;

use crate::adapters::{Network, NonFiniteLogit};

/// The file's name in a run directory.
pub const FILE: &str = "model.safetensors";

/// The model file that `path` means: itself, or the one in the run directory.
///
/// # Errors
///
/// When there is none, or it is a link that leads out of the run directory.
pub fn locate(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!(
            "there is no model `{}`; give a {FILE} or the run directory that holds it",
            path.display()
        );
    }
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let file = path.join(FILE);
    if !file.is_file() {
        bail!(
            "the folder `{}` holds no {FILE}; give a run directory, such as runs/train",
            path.display()
        );
    }
    // A run directory from somebody else must not choose what is read here.
    let (folder, real) = (path.canonicalize(), file.canonicalize());
    if let (Ok(folder), Ok(real)) = (folder, real)
        && !real.starts_with(&folder)
    {
        bail!(
            "`{}` is a link that leads out of its run directory, to `{}`; give that file itself if you trust it",
            file.display(),
            real.display()
        );
    }
    Ok(file)
}

/// A model that can be asked.
pub struct Model {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its network, classes and normalisation.
    pub metadata: Metadata,
    /// Its weights, all frozen.
    pub params: Params,
    device: Device,
    network: Network,
}

impl Model {
    /// Loads the model that `path` means; see [`locate`].
    ///
    /// # Errors
    ///
    /// A file that is broken or no trained model.
    pub fn open(path: &Path, device: &Device) -> anyhow::Result<Self> {
        let path = locate(path)?;
        let vgg::Model { metadata, tensors } =
            vgg::load_model(&path, device).context("the model cannot be used")?;
        let params = Params::from_tensors(tensors, device)?;
        let network = Network::new(&metadata.config, params.frozen_var_builder())
            .with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(Self {
            path,
            metadata,
            params,
            device: device.clone(),
            network,
        })
    }

    /// The same model, its layers computing in `precision`.
    pub fn with_precision(self, precision: vgg::Precision) -> Self {
        Self {
            network: self.network.with_precision(precision),
            ..self
        }
    }

    /// The network, for a whole pass over a data set.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Class names, by index.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// Side of the square input in pixels.
    pub fn input_size(&self) -> u32 {
        // The metadata's check keeps it within some thousands.
        self.metadata.config.input_size as u32
    }

    /// How its pictures are normalised.
    pub fn normalize(&self) -> Normalize {
        Normalize {
            mean: self.metadata.mean,
            std: self.metadata.std,
        }
    }

    /// Something that reads pictures as this model wants them.
    pub fn reader(&self, decode: DecodeOptions) -> ImageReader {
        ImageReader {
            decoder: Decoder::new(decode),
            resampler: Resampler::default(),
            size: self.input_size(),
            normalize: self.normalize(),
        }
    }

    /// The class probabilities of each image, as [`ImageReader::read`] returns images.
    ///
    /// An image whose logits are not all finite has no probabilities.
    ///
    /// # Errors
    ///
    /// Returns an error if the forward pass fails.
    pub fn probabilities(
        &self,
        pictures: &[&[f32]],
    ) -> anyhow::Result<Vec<Result<Vec<f32>, NonFiniteLogit>>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let side = self.input_size() as usize;
        let x = Tensor::from_vec(
            pictures.concat(),
            (pictures.len(), 3, side, side),
            &self.device,
        )?;
        let layers = 0..self.network.layer_names().len();
        let logits = self.network.forward_layers(&x, layers, Mode::Eval)?;
        let probabilities: Vec<Vec<f32>> =
            candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2()?;
        let non_finite = NonFiniteLogit::of_rows(&logits)?;
        let rows = probabilities.into_iter().zip(non_finite);
        Ok(rows
            .map(|(probabilities, error)| error.map_or(Ok(probabilities), Err))
            .collect())
    }
}

/// Reads pictures one after the other, each to the normalised values (3, size, size) of a network's input.
pub struct ImageReader {
    decoder: Decoder,
    resampler: Resampler,
    size: u32,
    normalize: Normalize,
}

impl ImageReader {
    /// Decodes, resizes, cuts and normalises as validation does.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no picture.
    pub fn read(&mut self, path: &Path) -> Result<Vec<f32>, dataset::Error> {
        let picture = self.decoder.decode(path, RgbImage::default())?;
        let plan = match Transform::eval(self.size) {
            Transform::Eval { resize, size } => {
                Plan::center_crop(picture.width(), picture.height(), resize, size)
            }
            Transform::Train { .. } => unreachable!("`eval` makes the other kind"),
        };
        let mut values = Vec::with_capacity(3 * (self.size * self.size) as usize);
        self.normalize
            .append(self.resampler.apply(&picture, &plan)?, &mut values);
        Ok(values)
    }
}
