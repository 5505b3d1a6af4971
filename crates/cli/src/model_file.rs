//! Loads a trained model from its file and classifies images with it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{D, Device, Tensor};
use dataset::{DecodeOptions, Normalize, Transform};
use trainer::Params;
use vgg::{Metadata, Mode, Vgg};

use crate::error::Diagnostic;
use crate::non_finite_logit::NonFiniteLogit;

/// Name of the model file in a run directory.
pub const FILE: &str = "model.safetensors";

/// Finds the model file for `path`: the file itself, or `model.safetensors` in a run directory.
///
/// # Errors
///
/// Returns an error if there is no such file, or if it is a symbolic link to a file outside the run
/// directory.
pub fn locate(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!(
            Diagnostic::new(format!("no model `{}`", path.display()))
                .help(format!("pass a `{FILE}` file or a run directory"))
        );
    }
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let file = path.join(FILE);
    if !file.is_file() {
        bail!(
            Diagnostic::new(format!("no `{FILE}` in the folder `{}`", path.display()))
                .help("pass a run directory, such as `runs/train`")
        );
    }
    // An untrusted run directory must not redirect to a file elsewhere.
    let (folder, real) = (path.canonicalize(), file.canonicalize());
    if let (Ok(folder), Ok(real)) = (folder, real)
        && !real.starts_with(&folder)
    {
        bail!(
            Diagnostic::new(format!(
                "`{}` is a link to `{}`, outside its run directory",
                file.display(),
                real.display()
            ))
            .help("pass that file itself if you trust it")
        );
    }
    Ok(file)
}

/// A trained model, ready for inference.
pub struct Model {
    /// Path of the model file.
    pub path: PathBuf,
    /// Architecture, classes and normalization.
    pub metadata: Metadata,
    /// The weights, all frozen.
    pub params: Params,
    device: Device,
    network: Vgg,
}

impl Model {
    /// Loads the model file that [`locate`] finds for `path`.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is not a trained model.
    pub fn open(path: &Path, device: &Device) -> anyhow::Result<Self> {
        let path = locate(path)?;
        let vgg::Model { metadata, tensors } =
            vgg::load_model(&path, device).context("cannot load the model")?;
        let params = Params::from_tensors(tensors, device)?;
        let network = Vgg::new(&metadata.config, params.frozen_var_builder())
            .with_context(|| format!("cannot build the network of {}", path.display()))?;
        Ok(Self {
            path,
            metadata,
            params,
            device: device.clone(),
            network,
        })
    }

    /// Sets the compute precision of the layers.
    pub fn with_precision(self, precision: vgg::Precision) -> Self {
        Self {
            network: self.network.with_precision(precision),
            ..self
        }
    }

    /// The network, built from the loaded weights.
    pub fn network(&self) -> &Vgg {
        &self.network
    }

    /// Class names, by index.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// Side length of the square input in pixels.
    pub fn input_size(&self) -> u32 {
        // `Metadata::check` limits the size to a few thousand pixels.
        self.metadata.config.input_size as u32
    }

    /// Mean and standard deviation that normalize the input images.
    pub fn normalize(&self) -> Normalize {
        Normalize {
            mean: self.metadata.mean,
            std: self.metadata.std,
        }
    }

    /// Decodes, resizes, center-crops and normalizes an image, as validation does.
    ///
    /// Returns a batch of one image on the CPU, shape (1, 3, size, size).
    ///
    /// # Errors
    ///
    /// Returns an error if the image cannot be read or decoded.
    pub fn read(&self, path: &Path, decode: &DecodeOptions) -> Result<Tensor, dataset::Error> {
        let image = dataset::decode(path, decode)?;
        Transform::eval(self.input_size()).prepare_image(&image, &self.normalize(), &Device::Cpu)
    }

    /// For each image returned by [`read`](Self::read), returns its class probabilities, or its
    /// first non-finite logit.
    ///
    /// # Errors
    ///
    /// Returns an error if the forward pass fails.
    pub fn probabilities(
        &self,
        images: &[&Tensor],
    ) -> anyhow::Result<Vec<Result<Vec<f32>, NonFiniteLogit>>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let x = Tensor::cat(images, 0)?.to_device(&self.device)?;
        let logits = self.network.forward(&x, Mode::Eval)?;
        let probabilities: Vec<Vec<f32>> =
            candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2()?;
        let non_finite = NonFiniteLogit::of_rows(&logits)?;
        let rows = probabilities.into_iter().zip(non_finite);
        Ok(rows
            .map(|(probabilities, error)| error.map_or(Ok(probabilities), Err))
            .collect())
    }
}
