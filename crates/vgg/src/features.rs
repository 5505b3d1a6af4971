//! The backbone: convolutions with optional batch norms, ReLUs and pools.

use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use kernels::{ConvLayer, GradSink, conv_stack};

use crate::config::VggConfig;
use crate::error::Error;
use crate::norm::BatchNorm;
use crate::precision::{Memo, Precision};
use crate::weights;

/// The backbone of a VGG network, without the classifier. torchvision calls it `features`.
///
/// Use it to compute features of images, for example as the input of another classifier. It is
/// `Send` and `Sync`, so threads can share it. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Features {
    pub(crate) config: VggConfig,
    blocks: Vec<Block>,
    pub(crate) precision: Precision,
}

impl Features {
    /// Builds the backbone from the tensors `features.0.weight` … of `vb`.
    ///
    /// If the backend of `vb` creates missing tensors, they are initialized as in torchvision:
    /// convolution weights with `kaiming_normal_`, biases with 0, and batch norms with weight 1,
    /// bias 0, mean 0 and variance 1.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, or if a tensor is missing or has the wrong
    /// shape.
    pub fn new(config: &VggConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        let mut blocks = Vec::new();
        for conv in &config.convolutions()? {
            let layer = vb.pp(format!("features.{}", conv.index));
            let init = Init::Randn {
                mean: 0.0,
                stdev: (2.0 / (9 * conv.output) as f64).sqrt(),
            };
            let weight = layer.get_with_hints((conv.output, conv.input, 3, 3), "weight", init)?;
            let bias = layer.get_with_hints(conv.output, "bias", Init::Const(0.0))?;
            let norm = conv
                .norm
                .map(|index| BatchNorm::new(conv.output, &vb.pp(format!("features.{index}"))));
            blocks.push(Block::new(weight, bias, norm.transpose()?, conv.pool)?);
        }
        Ok(Self {
            config: config.clone(),
            blocks,
            precision: Precision::F32,
        })
    }

    /// Loads the backbone of a weights file. Tensors of the classifier are neither read nor
    /// created.
    ///
    /// The file has one of the formats of [`load_pretrained`](crate::load_pretrained). The
    /// configuration is that of its metadata. Without metadata, it is that of the architecture
    /// that [`detect_architecture`](crate::detect_architecture) returns, with 1000 classes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Undetected`] if the file has neither metadata nor the weights of an
    /// architecture in [`VggConfig::NAMES`]. Returns an error if the file cannot be read or is
    /// invalid, if its backbone does not match the metadata, if it has tensors that the network
    /// does not have or two tensors with the same torchvision name, or if a tensor cannot be
    /// created on the device.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> std::result::Result<Self, Error> {
        let (config, tensors) = weights::load_features(path.as_ref(), device)?;
        let tensors = tensors.into_iter().collect();
        Self::new(
            &config,
            VarBuilder::from_tensors(tensors, DType::F32, device),
        )
    }

    /// Sets the compute precision, as [`Vgg::with_precision`](crate::Vgg::with_precision) does.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The configuration of the network. Its classifier is not part of the backbone.
    pub fn config(&self) -> &VggConfig {
        &self.config
    }

    /// Computes the features of normalized images `x`: (B, 3, H, W) → (B, C, H/2ᵖ, W/2ᵖ), rounded
    /// down, where C is the width of the last convolution and p is the number of pools (512 and 5
    /// in the named architectures). The output has the dtype of the precision.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Vgg::forward`](crate::Vgg::forward).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check_images(x)?;
        self.run(&self.precision.cast(x)?, 0..self.blocks.len())
    }

    /// Runs a range of convolutions, numbered from 0. `x` has the dtype of the precision.
    pub(crate) fn run(&self, x: &Tensor, blocks: Range<usize>) -> Result<Tensor> {
        let blocks = self.blocks[blocks].iter();
        let layers = blocks.map(|block| block.layer(self.precision));
        conv_stack(x, &layers.collect::<Result<Vec<_>>>()?)
    }

    /// Like [`run`](Self::run), without the pool after the last convolution.
    pub(crate) fn run_without_last_pool(&self, x: &Tensor, blocks: Range<usize>) -> Result<Tensor> {
        let blocks = self.blocks[blocks].iter();
        let layers = blocks.map(|block| block.layer(self.precision));
        let mut layers = layers.collect::<Result<Vec<_>>>()?;
        let last = layers.pop().map(ConvLayer::without_pool);
        layers.extend(last);
        conv_stack(x, &layers)
    }

    /// Returns [`Error::Images`], wrapped in candle's error, if the network cannot run on `x`.
    pub(crate) fn check_images(&self, x: &Tensor) -> Result<()> {
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

    /// Collects weight gradients of convolutions without batch norm in `grad_sink`.
    pub(crate) fn set_grad_sink(&mut self, grad_sink: &GradSink) {
        for block in &mut self.blocks {
            let layer = block.layer.take();
            block.layer = layer.map(|layer| layer.with_grad_sink(grad_sink));
        }
    }

    /// Weight and bias of each convolution with its batch norm folded in.
    pub(crate) fn folded(&self) -> Result<Vec<[Tensor; 2]>> {
        let folded = |block: &Block| block.folded().map(<[Tensor; 2]>::from);
        self.blocks.iter().map(folded).collect()
    }
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
    /// The layer with f32 weights. `None` if the block has a batch norm and is trainable: each
    /// forward pass then folds the batch norm again, because optimizers change weights in place.
    layer: Option<ConvLayer>,
    /// The layer with weights rounded to bf16 on first use, if the block is frozen.
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
            layer: None,
            rounded: Memo::default(),
        };
        if !tracked || block.norm.is_none() {
            block.layer = Some(block.build(Precision::F32)?);
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

    fn build(&self, weights: Precision) -> Result<ConvLayer> {
        let (weight, bias) = self.folded()?;
        let (weight, bias) = (weights.cast(&weight)?, weights.cast(&bias)?);
        Ok(ConvLayer::new(weight, bias, self.pool)?)
    }

    /// Returns the convolution to run.
    fn layer(&self, precision: Precision) -> Result<ConvLayer> {
        // Trainable blocks have f32 weights, because the kernels round them for each batch.
        if precision == Precision::Bf16 && !self.tracked {
            return self.rounded.get_or_try_init(|| self.build(precision));
        }
        match &self.layer {
            Some(layer) => Ok(layer.clone()),
            None => self.build(Precision::F32),
        }
    }
}
