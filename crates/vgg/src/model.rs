//! The network: convolutions, an adaptive average pool, and three linear layers.
//!
//! ```text
//! (B, 3, H, W) ─ features ─▶ (B, C, H/32, W/32) ─ avgpool ─▶ (B, C, 7, 7) ─ flatten ─▶ (B, C·49) ─ classifier ─▶ (B, classes)
//! ```
//!
//! The sizes in the diagram are those of the named architectures. The architecture is that of
//! torchvision/models/vgg.py. Running statistics of batch norms are
//! fixed (see `norm.rs`).
//!
//! Layers with parameters are numbered 0..n from input to output. Each one includes the following
//! layers without parameters (ReLU, pools, flatten, dropout), so running `0..k` and then `k..n`
//! gives the same result as running `0..n`. A convolution is computed together with its batch norm,
//! in the range that contains the batch norm.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use kernels::{GradSink, Gradient, adaptive_avg_pool2d, linear_with_grad_sink, relu};

use crate::config::VggConfig;
use crate::dropout::dropout_half;
use crate::error::Error;
use crate::features::Features;
use crate::precision::{Memo, Precision};

/// Evaluation or training mode. Dropout is active only in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evaluation, without dropout.
    Eval,
    /// Training, with dropout masks that are a function of (`seed`, `step`, layer).
    Train {
        /// Seed for the dropout masks.
        seed: u64,
        /// Training step, counted from 0.
        step: u64,
    },
}

/// A VGG network.
///
/// It is `Send` and `Sync`, so threads can share it. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Vgg {
    names: Vec<String>,
    pub(crate) features: Features,
    linears: Vec<Linear>,
    grad_sink: Option<GradSink>,
}

#[derive(Clone, Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
    /// Weight and bias rounded to bf16 on first use, if both are frozen.
    rounded: Memo<(Tensor, Tensor)>,
}

impl Linear {
    /// Returns the weight and bias to compute with.
    fn tensors(&self, precision: Precision) -> Result<(Tensor, Tensor)> {
        let Self { weight, bias, .. } = self;
        // Trainable weights are returned as f32, because the kernels round them for each batch.
        if precision == Precision::F32 || weight.track_op() || bias.track_op() {
            return Ok((weight.clone(), bias.clone()));
        }
        self.rounded
            .get_or_try_init(|| Ok((precision.cast(weight)?, precision.cast(bias)?)))
    }
}

impl Vgg {
    /// Builds the network from the tensors `features.0.weight` … `classifier.6.bias` of `vb`.
    ///
    /// If the backend of `vb` creates missing tensors, the classifier is initialized like
    /// `nn.Linear`, and the backbone as described in [`Features::new`].
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, or if a tensor is missing or has the wrong
    /// shape.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        let features = Features::new(config, vb.clone())?;
        let convolutions = config.convolutions()?;
        let indices = convolutions
            .iter()
            .flat_map(|conv| [Some(conv.index), conv.norm]);
        let names = indices.flatten().map(|index| format!("features.{index}"));
        let mut names: Vec<String> = names.collect();
        let mut linears = Vec::new();
        for (index, input, output) in config.linears(&convolutions) {
            let name = format!("classifier.{index}");
            let vb = vb.pp(&name);
            let bound = 1.0 / (input as f64).sqrt();
            let init = Init::Uniform {
                lo: -bound,
                up: bound,
            };
            linears.push(Linear {
                weight: vb.get_with_hints((output, input), "weight", init)?,
                bias: vb.get_with_hints(output, "bias", init)?,
                rounded: Memo::default(),
            });
            names.push(name);
        }
        Ok(Self {
            names,
            features,
            linears,
            grad_sink: None,
        })
    }

    /// Builds the network from named f32 tensors, as [`Vgg::new`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::new`].
    pub fn from_tensors(
        config: &VggConfig,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        device: &Device,
    ) -> std::result::Result<Self, Error> {
        let tensors = tensors.into_iter().collect();
        Self::new(
            config,
            VarBuilder::from_tensors(tensors, DType::F32, device),
        )
    }

    /// Collects weight gradients in a [`GradSink`] instead of candle's `GradStore`. Has an effect
    /// only on the CPU, and not on trainable convolutions with batch norm.
    ///
    /// candle's backward pass copies every gradient, half a gigabyte in total for VGG-16. Get the
    /// gradients with [`Vgg::take_gradient`].
    pub fn with_grad_sink(mut self) -> Self {
        let grad_sink = GradSink::default();
        self.features.set_grad_sink(&grad_sink);
        self.grad_sink = Some(grad_sink);
        self
    }

    /// Removes and returns the gradient of a parameter from the [`GradSink`]: the sum over all
    /// backward passes since the last call. Returns `None` if the sink has no gradient of the
    /// parameter, or if there is no sink.
    pub fn take_gradient(&self, parameter: &Tensor) -> Option<Gradient> {
        self.grad_sink.as_ref()?.take(parameter)
    }

    /// Sets the compute precision of the layers. The logits are always f32.
    ///
    /// With [`Precision::Bf16`], rounded copies of frozen weights are cached on first use. Rebuild
    /// the network after changing frozen weights in place.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self {
            features: self.features.with_precision(precision),
            ..self
        }
    }

    /// The configuration of the network.
    pub fn config(&self) -> &VggConfig {
        &self.features.config
    }

    /// Names of the layers with parameters, from input to output: `features.0` … `classifier.6`.
    pub fn layer_names(&self) -> &[String] {
        &self.names
    }

    /// Computes the logits (B, classes) of normalized images `x` (B, 3, H, W), in f32. With
    /// [`Precision::Bf16`], `x` can also be bf16.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Images`], wrapped in candle's error, if `x` has another dtype or rank, does
    /// not have three channels, or is smaller than [`VggConfig::smallest_input`]. Returns an error
    /// if the device does not support the precision.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_layers(x, 0..self.names.len(), mode)
    }

    /// Runs the backbone, as [`Features::forward`] does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::forward`].
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        self.features.forward(x)
    }

    /// Weight and bias of each convolution with its batch norm folded in.
    pub(crate) fn folded_convolutions(&self) -> Result<Vec<[Tensor; 2]>> {
        self.features.folded()
    }

    /// Name, weight and bias of each linear layer.
    pub(crate) fn linear_layers(&self) -> Vec<(&str, [Tensor; 2])> {
        let names = &self.names[self.names.len() - self.linears.len()..];
        let weights = self
            .linears
            .iter()
            .map(|layer| [layer.weight.clone(), layer.bias.clone()]);
        names.iter().map(String::as_str).zip(weights).collect()
    }

    /// Runs a range of layers, numbered as in [`Vgg::layer_names`]. Each layer includes the
    /// following layers without parameters. `x` is a batch of images if the range starts at 0,
    /// otherwise the output of the preceding layer.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::forward`], and an error if the range exceeds the network or its
    /// start exceeds its end, or if `x` is not a valid input of the first layer.
    pub fn forward_layers(&self, x: &Tensor, layers: Range<usize>, mode: Mode) -> Result<Tensor> {
        // With batch norm a block is two layers. It runs in the range that contains the second one.
        let precision = &self.features.precision;
        let per_block = if self.config().batch_norm { 2 } else { 1 };
        let all = self.names.len();
        let convolutions = all - self.linears.len();
        if layers.start > layers.end || layers.end > all {
            bail!("layers {layers:?} are out of range: the network has {all} layers");
        }
        if layers.start == 0 && layers.end > 0 {
            self.features.check_images(x)?;
        }
        let mut x = precision.cast(x)?;
        if layers.start < convolutions && !layers.is_empty() {
            let end = layers.end.min(convolutions);
            x = self
                .features
                .run(&x, layers.start / per_block..end / per_block)?;
            if end == convolutions {
                x = self.pool_and_flatten(&x)?;
            }
        }
        for layer in layers.start.max(convolutions)..layers.end {
            let (weight, bias) = self.linears[layer - convolutions].tensors(*precision)?;
            x = linear_with_grad_sink(&x, &weight, &bias, self.grad_sink.as_ref())?;
            if layer + 1 < all {
                x = relu(&x)?;
                if let Mode::Train { seed, step } = mode {
                    x = dropout_half(&x, seed, step, layer as u64)?;
                }
            }
        }
        if layers.end == all && *precision == Precision::Bf16 {
            x = x.to_dtype(DType::F32)?;
        }
        Ok(x)
    }

    /// Computes the logits from the output of the convolutions, (B, C, h, w).
    pub(crate) fn classify(&self, x: &Tensor) -> Result<Tensor> {
        let all = self.names.len();
        let x = self.pool_and_flatten(x)?;
        self.forward_layers(&x, all - self.linears.len()..all, Mode::Eval)
    }

    /// The layers between the convolutions and the linear layers: (B, C, h, w) → (B, C·avgpool²).
    fn pool_and_flatten(&self, x: &Tensor) -> Result<Tensor> {
        let side = self.config().avgpool;
        adaptive_avg_pool2d(x, (side, side))?.flatten_from(1)
    }
}
