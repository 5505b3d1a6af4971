//! Adapters between the library crates: a VGG as a [`trainer::Model`], a loader as a
//! [`trainer::DataLoader`].
//!
//! The libraries do not depend on each other, so Rust's orphan rule requires a newtype for each
//! pair.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use vgg::kernels::Gradient;
use vgg::{Precision, Vgg, VggConfig};

/// A VGG network wrapped for use by the trainer.
#[derive(Debug, Clone)]
pub struct Network(Vgg);

impl Network {
    /// Builds the network described by `config`, with parameters from `vb`.
    ///
    /// # Errors
    ///
    /// Returns an error if a tensor is missing or has the wrong shape. The error type is candle's
    /// because the trainer requires it of build functions.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        match Vgg::new(config, vb) {
            Ok(vgg) => Ok(Self(vgg.with_grad_sink())),
            Err(vgg::Error::Candle(error)) => Err(error),
            Err(error) => Err(candle_core::Error::wrap(error)),
        }
    }

    /// Sets the compute precision of the layers.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self(self.0.with_precision(precision))
    }
}

/// A logit that is NaN or infinite, which makes the whole output invalid as a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonFiniteLogit(pub f32);

impl NonFiniteLogit {
    /// For each row of `logits` (B, C), the first non-finite logit, or `None` if all are finite.
    ///
    /// # Errors
    ///
    /// Returns an error if the logits cannot be copied to the CPU.
    pub fn of_rows(logits: &Tensor) -> candle_core::Result<Vec<Option<Self>>> {
        let rows = logits.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let first = |row: Vec<f32>| row.into_iter().find(|logit| !logit.is_finite());
        Ok(rows.into_iter().map(|row| first(row).map(Self)).collect())
    }
}

impl fmt::Display for NonFiniteLogit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the output of the model contains {}", self.0)
    }
}

impl std::error::Error for NonFiniteLogit {}

/// A network whose forward pass fails at the first image with a non-finite logit.
///
/// The image is identified by the number of images before it, so a `CheckedNetwork` is used for a
/// single pass over a split, in order. [`trainer::evaluate`] only checks the loss, which stays
/// finite if the logit of a wrong class is −∞.
#[derive(Debug)]
pub struct CheckedNetwork<'a> {
    network: &'a Network,
    images: Cell<usize>,
    non_finite: Cell<Option<(usize, NonFiniteLogit)>>,
}

impl<'a> CheckedNetwork<'a> {
    /// Wraps `network`, starting the image count at 0.
    pub fn new(network: &'a Network) -> Self {
        Self {
            network,
            images: Cell::new(0),
            non_finite: Cell::new(None),
        }
    }

    /// Index of the image that made the forward pass fail, counted from 0, and its non-finite
    /// logit. `None` if no forward pass failed.
    pub fn non_finite(&self) -> Option<(usize, NonFiniteLogit)> {
        self.non_finite.get()
    }

    fn check(&self, logits: &Tensor) -> candle_core::Result<()> {
        for error in NonFiniteLogit::of_rows(logits)? {
            if let Some(error) = error {
                self.non_finite.set(Some((self.images.get(), error)));
                return Err(candle_core::Error::wrap(error));
            }
            self.images.set(self.images.get() + 1);
        }
        Ok(())
    }
}

impl trainer::Model for CheckedNetwork<'_> {
    fn layer_names(&self) -> &[String] {
        self.network.layer_names()
    }

    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        mode: trainer::Mode,
    ) -> candle_core::Result<Tensor> {
        let is_last = layers.end == self.layer_names().len();
        let output = self.network.forward_layers(x, layers, mode)?;
        if is_last {
            self.check(&output)?;
        }
        Ok(output)
    }
}

/// Converts a gradient of the `vgg` crate to the trainer's type.
pub fn gradient(gradient: Gradient) -> trainer::Gradient {
    match gradient {
        Gradient::Dense(values) => trainer::Gradient::Dense(values),
        Gradient::LowRank { left, right } => trainer::Gradient::LowRank { left, right },
    }
}

impl trainer::Model for Network {
    fn layer_names(&self) -> &[String] {
        self.0.layer_names()
    }

    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        mode: trainer::Mode,
    ) -> candle_core::Result<Tensor> {
        let mode = match mode {
            trainer::Mode::Eval => vgg::Mode::Eval,
            trainer::Mode::Train { seed, step } => vgg::Mode::Train { seed, step },
        };
        self.0.forward_layers(x, layers, mode)
    }

    fn take_gradient(&self, parameter: &Tensor) -> Option<trainer::Gradient> {
        self.0.take_gradient(parameter).map(gradient)
    }
}

/// A data loader wrapped for use by the trainer.
pub struct ImageLoader(dataset::Loader);

impl ImageLoader {
    /// Wraps `loader`.
    pub fn new(loader: dataset::Loader) -> Self {
        Self(loader)
    }
}

impl trainer::DataLoader for ImageLoader {
    fn samples(&self) -> usize {
        self.0.samples().len()
    }

    fn epoch(&self, epoch: u64, first: usize) -> trainer::Batches<'_> {
        Box::new(self.0.epoch_from(epoch, first).map(|batch| match batch {
            Ok(batch) => Ok(trainer::Batch {
                inputs: batch.images,
                targets: batch.labels,
                indices: batch.indices,
            }),
            Err(error) => Err(error.into()),
        }))
    }
}
