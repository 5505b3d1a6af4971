//! [`trainer::Model`] for [`Vgg`], with the feature `trainer`.
//!
//! Build the network for training with [`Vgg::with_grad_sink`]. Without it, the results are the
//! same, but each step on the CPU is slower and needs more memory.

use std::ops::Range;

use candle_core::{Result, Tensor};

use crate::Vgg;
use crate::kernels::Gradient;

impl trainer::Model for Vgg {
    fn layer_names(&self) -> &[String] {
        self.layer_names()
    }

    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        mode: trainer::Mode,
    ) -> Result<Tensor> {
        let mode = match mode {
            trainer::Mode::Eval => crate::Mode::Eval,
            trainer::Mode::Train { seed, step } => crate::Mode::Train { seed, step },
        };
        self.forward_layers(x, layers, mode)
    }

    fn take_gradient(&self, parameter: &Tensor) -> Option<trainer::Gradient> {
        Some(match self.take_gradient(parameter)? {
            Gradient::Dense(values) => trainer::Gradient::Dense(values),
            Gradient::LowRank { left, right } => trainer::Gradient::LowRank { left, right },
        })
    }
}
