//! Where the libraries meet: a VGG as the trainer's model, a loader as one of its splits.
//!
//! They do not know each other, so each pair is joined by a type of ours around the one that implements the
//! trait of the other.

use std::ops::Range;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use vgg::kernels::Gradient;
use vgg::{Precision, Vgg, VggConfig};

/// A VGG network that the trainer can run in part.
#[derive(Debug, Clone)]
pub struct Network(Vgg);

impl Network {
    /// Builds the network of `config` on `vb`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape, as candle's error: that is what the trainer expects of
    /// a build function.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        match Vgg::new(config, vb) {
            Ok(vgg) => Ok(Self(vgg.with_grad_sink())),
            Err(vgg::Error::Candle(error)) => Err(error),
            Err(error) => Err(candle_core::Error::wrap(error)),
        }
    }

    /// The same network, its layers computing in `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self(self.0.in_precision(precision))
    }
}

/// The network's gradient as the trainer's.
pub fn gradient(of: Gradient) -> trainer::Gradient {
    match of {
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

/// The pictures of a split in batches.
pub struct Pictures(dataset::Loader);

impl Pictures {
    /// The batches that `loader` makes.
    pub fn new(loader: dataset::Loader) -> Self {
        Self(loader)
    }
}

impl trainer::DataLoader for Pictures {
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
