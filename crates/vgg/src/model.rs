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
use kernels::{
    ConvLayer, GradSink, Gradient, adaptive_avg_pool2d, conv_stack, linear_with_grad_sink, relu,
};

use crate::config::VggConfig;
use crate::dropout::dropout_half;
use crate::error::Error;
use crate::norm::BatchNorm;
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
    config: VggConfig,
    names: Vec<String>,
    convolutions: Vec<Block>,
    linears: Vec<Linear>,
    grad_sink: Option<GradSink>,
    precision: Precision,
}

/// A convolution with an optional batch norm, a ReLU and an optional pool.
#[derive(Clone, Debug)]
struct Block {
    weight: Tensor,
    bias: Tensor,
    norm: Option<BatchNorm>,
    pool: bool,
    /// Whether autograd tracks a weight or bias of the block.
    tracked: bool,
    /// The layer with f32 weights. It is `None` in two cases: if the block has a batch norm and is
    /// trainable, because each forward pass then folds the batch norm, and if the block is frozen
    /// and its precision is or was bf16.
    fixed: Option<ConvLayer>,
    /// The layer of a frozen block without `fixed`, with weights cast to the precision. Created on
    /// first use.
    rounded: Memo<ConvLayer>,
}

impl Block {
    fn new(weight: Tensor, bias: Tensor, norm: Option<BatchNorm>, pool: bool) -> Result<Self> {
        let tracked = weight.track_op()
            || bias.track_op()
            || norm.as_ref().is_some_and(BatchNorm::is_tracked);
        let mut block = Self {
            weight,
            bias,
            norm,
            pool,
            tracked,
            fixed: None,
            rounded: Memo::default(),
        };
        if !tracked || block.norm.is_none() {
            let (weight, bias) = block.folded()?;
            block.fixed = Some(ConvLayer::new(weight, bias, pool)?);
        }
        Ok(block)
    }

    /// Returns weight and bias of the convolution with its batch norm folded in.
    fn folded(&self) -> Result<(Tensor, Tensor)> {
        match &self.norm {
            Some(norm) => norm.fold(&self.weight, &self.bias),
            None => Ok((self.weight.clone(), self.bias.clone())),
        }
    }

    /// Returns the convolution to run. In a trainable block, each call folds the batch norm again,
    /// because optimizers change weights in place.
    fn layer(&self, precision: Precision) -> Result<ConvLayer> {
        let build = || {
            let (weight, bias) = self.folded()?;
            let (weight, bias) = if self.tracked {
                (weight, bias)
            } else {
                (precision.cast(&weight)?, precision.cast(&bias)?)
            };
            Ok(ConvLayer::new(weight, bias, self.pool)?)
        };
        match &self.fixed {
            Some(layer) => Ok(layer.clone()),
            None if self.tracked => build(),
            None => self.rounded.get_or_try_init(build),
        }
    }

    fn with_precision(self, precision: Precision) -> Self {
        // Trainable blocks keep their f32 layer, because the kernels round its weights for each
        // batch.
        let fixed = self
            .fixed
            .filter(|_| self.tracked || precision == Precision::F32);
        Self {
            fixed,
            rounded: Memo::default(),
            ..self
        }
    }
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
    /// `nn.Linear`, and the backbone as in torchvision: convolution weights with `kaiming_normal_`,
    /// biases with 0, and batch norms with weight 1, bias 0, mean 0 and variance 1.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, or if a tensor is missing or has the wrong
    /// shape.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        let configs = config.convolutions()?;
        let mut names = Vec::new();
        let mut convolutions = Vec::new();
        for conv in &configs {
            let name = format!("features.{}", conv.index);
            let (root, vb) = (&vb, vb.pp(&name));
            let init = Init::Randn {
                mean: 0.0,
                stdev: (2.0 / (9 * conv.output) as f64).sqrt(),
            };
            let weight = vb.get_with_hints((conv.output, conv.input, 3, 3), "weight", init)?;
            let bias = vb.get_with_hints(conv.output, "bias", Init::Const(0.0))?;
            names.push(name);
            let norm = match conv.norm {
                Some(index) => {
                    let name = format!("features.{index}");
                    let norm = BatchNorm::new(conv.output, &root.pp(&name))?;
                    names.push(name);
                    Some(norm)
                }
                None => None,
            };
            convolutions.push(Block::new(weight, bias, norm, conv.pool)?);
        }
        let mut linears = Vec::new();
        for (index, input, output) in config.linears(&configs) {
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
            config: config.clone(),
            names,
            convolutions,
            linears,
            grad_sink: None,
            precision: Precision::F32,
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
        for block in &mut self.convolutions {
            block.fixed = block
                .fixed
                .take()
                .map(|layer| layer.with_grad_sink(&grad_sink));
        }
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
    pub fn with_precision(mut self, precision: Precision) -> Self {
        for linear in &mut self.linears {
            linear.rounded = Memo::default();
        }
        let blocks = self.convolutions.into_iter();
        Self {
            convolutions: blocks
                .map(|block| block.with_precision(precision))
                .collect(),
            precision,
            ..self
        }
    }

    /// The configuration of the network.
    pub fn config(&self) -> &VggConfig {
        &self.config
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

    /// Runs the backbone: (B, 3, H, W) → (B, C, H/2ᵖ, W/2ᵖ), rounded down, where p is the number of
    /// pools (5 in the named architectures). The output has the dtype of the precision.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::forward`].
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        self.check_images(x)?;
        self.run_blocks(&self.precision.cast(x)?, 0..self.convolutions.len())
    }

    /// Weight and bias of each convolution with its batch norm folded in.
    pub(crate) fn folded_convolutions(&self) -> Result<Vec<[Tensor; 2]>> {
        let folded = |block: &Block| block.folded().map(<[Tensor; 2]>::from);
        self.convolutions.iter().map(folded).collect()
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

    fn run_blocks(&self, x: &Tensor, blocks: Range<usize>) -> Result<Tensor> {
        let blocks = self.convolutions[blocks].iter();
        let layers = blocks.map(|block| block.layer(self.precision));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        conv_stack(x, &layers)
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
        let per_block = if self.config.batch_norm { 2 } else { 1 };
        let convolutions = self.convolutions.len() * per_block;
        let all = self.names.len();
        if layers.start > layers.end || layers.end > all {
            bail!("layers {layers:?} are out of range: the network has {all} layers");
        }
        if layers.start == 0 && layers.end > 0 {
            self.check_images(x)?;
        }
        let mut x = self.precision.cast(x)?;
        if layers.start < convolutions && !layers.is_empty() {
            let end = layers.end.min(convolutions);
            x = self.run_blocks(&x, layers.start / per_block..end / per_block)?;
            if end == convolutions {
                x = adaptive_avg_pool2d(&x, (self.config.avgpool, self.config.avgpool))?;
                x = x.flatten_from(1)?;
            }
        }
        for layer in layers.start.max(convolutions)..layers.end {
            let (weight, bias) = self.linears[layer - convolutions].tensors(self.precision)?;
            x = linear_with_grad_sink(&x, &weight, &bias, self.grad_sink.as_ref())?;
            if layer + 1 < all {
                x = relu(&x)?;
                if let Mode::Train { seed, step } = mode {
                    x = dropout_half(&x, seed, step, layer as u64)?;
                }
            }
        }
        if layers.end == all && self.precision == Precision::Bf16 {
            x = x.to_dtype(DType::F32)?;
        }
        Ok(x)
    }

    fn check_images(&self, x: &Tensor) -> Result<()> {
        let least = self.config.smallest_input();
        let fits = matches!(*x.dims(), [_, 3, h, w] if h >= least && w >= least);
        let rounded = x.dtype() == DType::BF16 && self.precision == Precision::Bf16;
        if fits && (x.dtype() == DType::F32 || rounded) {
            return Ok(());
        }
        Err(candle_core::Error::wrap(Error::Images {
            architecture: self.config.architecture.clone(),
            least,
            shape: x.shape().clone(),
            dtype: x.dtype(),
        }))
    }
}
