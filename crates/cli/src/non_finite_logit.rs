//! Detects logits that are NaN or infinite, which make a prediction invalid.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use candle_core::{DType, Tensor};
use vgg::Vgg;

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
    network: &'a Vgg,
    images: Cell<usize>,
    non_finite: Cell<Option<(usize, NonFiniteLogit)>>,
}

impl<'a> CheckedNetwork<'a> {
    /// Wraps `network`, starting the image count at 0.
    pub fn new(network: &'a Vgg) -> Self {
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
        let output = trainer::Model::forward_layers(self.network, x, layers, mode)?;
        if is_last {
            self.check(&output)?;
        }
        Ok(output)
    }

    fn loss(&self, logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        trainer::Model::loss(self.network, logits, targets)
    }
}
