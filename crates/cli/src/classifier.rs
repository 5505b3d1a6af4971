//! Loads a trained model from its file and classifies images with it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::{D, DType, Device, Tensor};
use dataset::{DecodeOptions, Normalize, Transform};
use trainer::Params;
use vgg::{HeatMap, HeatMapMethod, Metadata, Mode, Vgg};

use crate::model_file::locate;
use crate::non_finite_logit::NonFiniteLogit;

/// A trained model, ready for inference.
///
/// It is `Send` and `Sync`, so threads can share it through an [`Arc`](std::sync::Arc). They compute
/// the same bits as a single thread.
///
/// The probabilities are `softmax(logits / temperature)`. `waggle train` fits the temperature to the
/// val images, without `--no-calibration`, and stores it in the [`Metadata`]. Without one, the
/// temperature is 1 and the probabilities are not calibrated.
///
/// ```no_run
/// use candle_core::Device;
/// use cli::Classifier;
/// use dataset::DecodeOptions;
///
/// # fn main() -> anyhow::Result<()> {
/// let classifier = Classifier::open("runs/train".as_ref(), &Device::Cpu)?;
/// classifier.warm_up()?;
/// let bytes = std::fs::read("ant.jpg")?;
/// let probabilities = classifier.classify_bytes(&bytes, &DecodeOptions::default())?;
/// for (class, probability) in classifier.classes().iter().zip(probabilities) {
///     println!("{class} {probability}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Classifier {
    /// Path of the model file.
    pub path: PathBuf,
    /// Architecture, classes, normalization and temperature.
    pub metadata: Metadata,
    /// The weights, all frozen.
    pub params: Params,
    device: Device,
    network: Vgg,
}

impl Classifier {
    /// Loads a model file, or the `model.safetensors` of a run directory.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no model at `path`, if the model of a run is a link out of its
    /// directory, or if the file cannot be read or is not a trained model.
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

    /// Sets the compute precision of the layers. If the device does not support it, the forward
    /// pass fails.
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
        // `Metadata::validate` limits the size to 4096 pixels.
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

    /// Like [`read`](Self::read), for an encoded image in memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the image cannot be decoded.
    pub fn read_bytes(
        &self,
        bytes: &[u8],
        decode: &DecodeOptions,
    ) -> Result<Tensor, dataset::Error> {
        let transform = Transform::eval(self.input_size());
        transform.prepare(bytes, decode, &self.normalize(), &Device::Cpu)
    }

    /// Runs the network once on an input of zeros. The layers prepare their weights in the first
    /// forward pass, so later calls are faster.
    ///
    /// # Errors
    ///
    /// Returns an error if the forward pass fails.
    pub fn warm_up(&self) -> anyhow::Result<()> {
        let side = self.input_size() as usize;
        let image = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?;
        self.probabilities(&[&image])?;
        Ok(())
    }

    /// Returns the class probabilities of an encoded image.
    ///
    /// # Errors
    ///
    /// Returns an error if the image cannot be decoded, if the forward pass fails, or if a logit is
    /// not finite.
    pub fn classify_bytes(&self, bytes: &[u8], decode: &DecodeOptions) -> anyhow::Result<Vec<f32>> {
        self.classify(&self.read_bytes(bytes, decode)?)
    }

    fn classify(&self, image: &Tensor) -> anyhow::Result<Vec<f32>> {
        let row = self.probabilities(&[image])?.pop();
        Ok(row.context("the image has no probabilities")??)
    }

    /// For each image returned by [`read`](Self::read) or [`read_bytes`](Self::read_bytes), returns its
    /// class probabilities, or its first non-finite logit.
    ///
    /// # Errors
    ///
    /// Returns an error if the images cannot be copied to the device, or if the forward pass fails.
    pub fn probabilities(
        &self,
        images: &[&Tensor],
    ) -> anyhow::Result<Vec<Result<Vec<f32>, NonFiniteLogit>>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let x = Tensor::cat(images, 0)?.to_device(&self.device)?;
        self.rows(&self.network.forward(&x, Mode::Eval)?)
    }

    /// Computes the heat map of an image returned by [`read`](Self::read) or
    /// [`read_bytes`](Self::read_bytes), as [`Vgg::heat_map`] does, and the class probabilities of
    /// the image.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::heat_map`].
    pub fn heat_map(
        &self,
        image: &Tensor,
        class: Option<usize>,
        layer: &str,
        method: HeatMapMethod,
    ) -> anyhow::Result<(HeatMap, Vec<f32>)> {
        let image = image.to_device(&self.device)?;
        let map = self.network.heat_map(&image, class, layer, method)?;
        let logits = Tensor::new(&map.logits[..], &Device::Cpu)?.unsqueeze(0)?;
        let row = self.rows(&logits)?.pop();
        Ok((map, row.context("the image has no probabilities")??))
    }

    /// The class probabilities of each row of `logits` (B, C), or its first non-finite logit.
    fn rows(&self, logits: &Tensor) -> anyhow::Result<Vec<Result<Vec<f32>, NonFiniteLogit>>> {
        let scaled = (logits / self.metadata.temperature)?;
        let probabilities: Vec<Vec<f32>> =
            candle_nn::ops::softmax(&scaled, D::Minus1)?.to_vec2()?;
        let non_finite = NonFiniteLogit::of_rows(logits)?;
        let rows = probabilities.into_iter().zip(non_finite);
        Ok(rows
            .map(|(probabilities, error)| error.map_or(Ok(probabilities), Err))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    const fn shared<T: Send + Sync>() {}
    const _: () = shared::<Classifier>();

    #[test]
    fn threads_that_share_a_classifier_compute_the_bits_of_one_thread() {
        let config = vgg::VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 3);
        let tensors =
            vgg::init::from_scratch(&config, 5, &Device::Cpu).expect("the configuration is valid");
        let folder = tempfile::tempdir().expect("a temporary folder can be created");
        let path = folder.path().join(crate::model_file::FILE);
        let classes = ["ant", "bee", "wasp"].map(String::from).to_vec();
        let Normalize { mean, std } = Normalize::IMAGENET;
        let metadata = Metadata {
            config,
            classes,
            mean,
            std,
            temperature: 1.0,
        };
        vgg::save(&path, &tensors, &metadata).expect("the model can be saved");
        let open =
            || Classifier::open(folder.path(), &Device::Cpu).expect("the model can be opened");
        let images: Vec<Tensor> = (0..4)
            .map(|seed| {
                let values =
                    (0..3 * 64 * 64).map(|i| ((i * 7919 + seed * 31) % 1000) as f32 / 500.0);
                Tensor::from_vec(values.collect(), (1, 3, 64, 64), &Device::Cpu)
                    .expect("the shape fits the values")
            })
            .collect();
        let bits = |classifier: &Classifier, image: &Tensor| -> Vec<u32> {
            let row = classifier
                .classify(image)
                .expect("the image can be classified");
            row.into_iter().map(f32::to_bits).collect()
        };
        let single = open();
        let expected: Vec<_> = images.iter().map(|image| bits(&single, image)).collect();
        assert_ne!(expected[0], expected[1]);
        // `warm_up` is not called, so that the threads race to prepare the weights.
        let classifier = Arc::new(open());
        thread::scope(|scope| {
            for _ in 0..4 {
                let classifier = Arc::clone(&classifier);
                let (images, expected) = (&images, &expected);
                scope.spawn(move || {
                    for (image, expected) in images.iter().zip(expected) {
                        assert_eq!(&bits(&classifier, image), expected);
                    }
                });
            }
        });
    }
}
