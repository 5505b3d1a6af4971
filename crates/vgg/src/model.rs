//! The network: convolutions, a pool to a fixed size, three linear layers.
//!
//! ```text
//! (B, 3, H, W) ─ features ─▶ (B, C, H/32, W/32) ─ avgpool ─▶ (B, C, 7, 7) ─ flatten ─▶ (B, C·49) ─ classifier ─▶ (B, classes)
//! ```
//!
//! As torchvision/models/vgg.py; batch norm keeps its statistics (see `norm.rs`). The layers with parameters are counted 0..n from the input
//! on; each carries the parameter-free ones that follow it (ReLU, pools, flatten, dropout), so that running
//! `0..k` and then `k..n` is running the network. A convolution runs together with its batch norm, with the part
//! that the batch norm is in.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::config::VggConfig;
use crate::dropout::dropout_half;
use crate::error::Error;
use crate::kernels::{
    ConvLayer, GradSink, Gradient, adaptive_avg_pool2d, conv_stack, linear_with_grad_sink, relu,
};
use crate::norm::BatchNorm;
use crate::precision::{Memo, Precision};

/// Whether the network trains, and if so, what its dropout draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evaluation: no dropout.
    Eval,
    /// Training: dropout with masks that are a function of (`seed`, `step`, layer).
    Train {
        /// The seed of the run.
        seed: u64,
        /// The training step.
        step: u64,
    },
}

/// A VGG network.
#[derive(Clone, Debug)]
pub struct Vgg {
    config: VggConfig,
    names: Vec<String>,
    convolutions: Vec<Block>,
    linears: Vec<Linear>,
    grad_sink: Option<GradSink>,
    precision: Precision,
}

/// A convolution with what follows it.
#[derive(Clone, Debug)]
struct Block {
    weight: Tensor,
    bias: Tensor,
    norm: Option<BatchNorm>,
    pool: bool,
    /// Whether any of it trains.
    tracked: bool,
    /// The layer to run, where the weights lead to their variables without a batch norm between, or do not change.
    fixed: Option<ConvLayer>,
    /// The same of weights that do not change, in another precision than theirs.
    rounded: Memo<ConvLayer>,
}

impl Block {
    fn new(weight: Tensor, bias: Tensor, norm: Option<BatchNorm>, pool: bool) -> Result<Self> {
        let tracked =
            weight.track_op() || bias.track_op() || norm.as_ref().is_some_and(BatchNorm::tracked);
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

    /// The weight and bias of the two in one.
    fn folded(&self) -> Result<(Tensor, Tensor)> {
        match &self.norm {
            Some(norm) => norm.fold(&self.weight, &self.bias),
            None => Ok((self.weight.clone(), self.bias.clone())),
        }
    }

    /// The convolution to run. With a batch norm that trains, or before one, it is made anew from what the weights
    /// are now: an optimizer changes them in place.
    fn layer(&self, precision: Precision) -> Result<ConvLayer> {
        let make = || {
            let (weight, bias) = self.folded()?;
            let (weight, bias) = if self.tracked {
                (weight, bias)
            } else {
                (precision.cast(&weight)?, precision.cast(&bias)?)
            };
            ConvLayer::new(weight, bias, self.pool)
        };
        match &self.fixed {
            Some(layer) => Ok(layer.clone()),
            None if self.tracked => make(),
            None => self.rounded.get_or_try_init(make),
        }
    }

    fn in_precision(self, precision: Precision) -> Self {
        // Weights that train are rounded for each batch, where they are used.
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
    /// Both, where they do not change, in another precision than theirs.
    rounded: Memo<(Tensor, Tensor)>,
}

impl Linear {
    /// Weight and bias to compute with.
    fn tensors(&self, precision: Precision) -> Result<(Tensor, Tensor)> {
        let Self { weight, bias, .. } = self;
        // Those that train are rounded for each batch, where they are used.
        if precision == Precision::F32 || weight.track_op() || bias.track_op() {
            return Ok((weight.clone(), bias.clone()));
        }
        self.rounded
            .get_or_try_init(|| Ok((precision.cast(weight)?, precision.cast(bias)?)))
    }
}

impl Vgg {
    /// Builds the network on `vb`, which holds `features.N.weight` … `classifier.6.bias`.
    ///
    /// A backend that creates what it lacks is asked for `nn.Linear`'s default in the classifier and torchvision's
    /// kaiming_normal in the convolutions.
    /// Errors: a configuration that is none, a tensor that is missing or has another shape.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        let table = config.convolutions()?;
        let mut names = Vec::new();
        let mut convolutions = Vec::new();
        for conv in &table {
            let name = format!("features.{}", conv.index);
            let (whole, vb) = (&vb, vb.pp(&name));
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
                    let norm = BatchNorm::new(conv.output, &whole.pp(&name))?;
                    names.push(name);
                    Some(norm)
                }
                None => None,
            };
            convolutions.push(Block::new(weight, bias, norm, conv.pool)?);
        }
        let mut linears = Vec::new();
        for (index, input, output) in config.linears(&table) {
            let name = format!("classifier.{index}");
            let vb = vb.pp(&name);
            let up = 1.0 / (input as f64).sqrt();
            let init = Init::Uniform { lo: -up, up };
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

    /// The same network, which puts the gradients of its parameters aside, on the CPU: candle's backward pass would
    /// copy each of them, half a gigabyte for VGG-16. Whoever trains it takes them from [`Vgg::take_gradient`].
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

    /// Takes the gradient of a parameter that was put aside, summed over all backward passes since it was last taken.
    pub fn take_gradient(&self, parameter: &Tensor) -> Option<Gradient> {
        self.grad_sink.as_ref()?.take(parameter)
    }

    /// The same network, its layers computing in `precision`. The logits are f32 in any case.
    ///
    /// In another one than F32 it keeps rounded copies of detached weights from their first use on: build it anew after
    /// changing them in place.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        for linear in &mut self.linears {
            linear.rounded = Memo::default();
        }
        let blocks = self.convolutions.into_iter();
        Self {
            convolutions: blocks.map(|block| block.in_precision(precision)).collect(),
            precision,
            ..self
        }
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &VggConfig {
        &self.config
    }

    /// The layers with parameters, from the input on: `features.0` … `classifier.6`.
    pub fn layer_names(&self) -> &[String] {
        &self.names
    }

    /// The logits of pictures `x` (B, 3, H, W) f32, normalised: (B, classes).
    ///
    /// Errors: pictures smaller than [`VggConfig::smallest_input`], another number of channels, a device that does not
    /// compute in the network's precision.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_layers(x, 0..self.names.len(), mode)
    }

    /// The convolution part alone: (B, 3, H, W) → (B, C, H/32, W/32).
    ///
    /// Errors: as [`Vgg::forward`].
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        self.check_pictures(x)?;
        self.run_blocks(&self.precision.cast(x)?, 0..self.convolutions.len())
    }

    /// Weight and bias of each convolution, its batch norm folded in.
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

    /// Runs `layers`, counted as in [`Vgg::layer_names`], with what follows each up to the next. `x` is the
    /// pictures for a range that starts at 0, else the output of the layers before it.
    ///
    /// Errors: as [`Vgg::forward`]; a range beyond the network.
    pub fn forward_layers(&self, x: &Tensor, layers: Range<usize>, mode: Mode) -> Result<Tensor> {
        // With batch norm a block is two layers, and runs where its second one is.
        let per_block = if self.config.batch_norm { 2 } else { 1 };
        let convolutions = self.convolutions.len() * per_block;
        let all = self.names.len();
        if layers.start > layers.end || layers.end > all {
            bail!("layers {layers:?} of a network with {all}");
        }
        if layers.start == 0 && layers.end > 0 {
            self.check_pictures(x)?;
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

    fn check_pictures(&self, x: &Tensor) -> Result<()> {
        let (_, channels, h, w) = x.dims4()?;
        let least = self.config.smallest_input();
        if channels != 3 || h < least || w < least {
            bail!(
                "{} takes pictures (B, 3, H, W) of at least {least}x{least} pixels, not {:?}",
                self.config.architecture,
                x.shape()
            );
        }
        Ok(())
    }
}
