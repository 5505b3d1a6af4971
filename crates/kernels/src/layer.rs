//! The parameters and settings of a convolution layer.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::error::Error;
use crate::grad::GradSink;
use crate::isa::Isa;
use crate::layout::NchwcShape;
use crate::storage::with_values;
use crate::winograd::weights::{self, KernelLayout, TransformedWeights};
use crate::winograd::{Epilogue, convolve};

/// A 3x3 convolution with stride 1, padding 1, bias, an optional ReLU and an optional 2x2 max pool
/// with stride 2.
///
/// [`conv_stack`](crate::conv_stack) runs layers.
#[derive(Clone, Debug)]
pub struct ConvLayer {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) relu: bool,
    pub(crate) pool: bool,
    pub(crate) grad_sink: Option<GradSink>,
    isa: Isa,
    /// The transform of an untracked weight, computed on first use. Clones share it.
    transformed: Arc<OnceLock<Arc<TransformedWeights>>>,
}

impl ConvLayer {
    /// Creates a layer with ReLU from `weight` (k, c, 3, 3) and `bias` (k), which must be f32 on
    /// the CPU. `pool` adds the max pool.
    ///
    /// A layer of tracked tensors reads their values in each forward pass, so it sees updates by an
    /// optimizer. On the CPU, a layer with an untracked weight caches the transformed weight. After
    /// changing such a weight in place, create a new layer.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Shape`] if `weight` is empty or not (k, c, 3, 3), or if `bias` is not (k).
    /// Returns [`Error::NotContiguous`] if a tracked tensor is not contiguous: the layer would keep
    /// a contiguous copy, which updates of the original do not change. Untracked tensors may have
    /// any strides, and are copied if they are not contiguous. Returns [`Error::Candle`] if the
    /// copy fails, and the error of [`Isa::selected`].
    pub fn new(weight: Tensor, bias: Tensor, pool: bool) -> std::result::Result<Self, Error> {
        Self::with_isa(weight, bias, pool, Isa::selected()?)
    }

    /// Like [`ConvLayer::new`], with the kernels for a specific instruction set instead of
    /// [`Isa::selected`]. For tests and benchmarks. Devices other than the CPU ignore `isa`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ConvLayer::new`], and [`Error::UnsupportedIsa`] if `isa` is not in
    /// [`Isa::available`].
    pub fn with_isa(
        weight: Tensor,
        bias: Tensor,
        pool: bool,
        isa: Isa,
    ) -> std::result::Result<Self, Error> {
        match *weight.dims() {
            [k, c, 3, 3] if k * c > 0 && bias.dims() == [k] => {}
            _ => {
                return Err(Error::Shape {
                    weight: weight.shape().clone(),
                    bias: bias.shape().clone(),
                });
            }
        }
        for (parameter, tensor) in [("weight", &weight), ("bias", &bias)] {
            if tensor.track_op() && !tensor.is_contiguous() {
                return Err(Error::NotContiguous { parameter });
            }
        }
        if !Isa::available().contains(&isa) {
            return Err(Error::UnsupportedIsa { isa });
        }
        Ok(Self {
            weight: weight.contiguous()?,
            bias: bias.contiguous()?,
            relu: true,
            pool,
            grad_sink: None,
            isa,
            transformed: Arc::default(),
        })
    }

    /// Gets `weight` (`k`, `c`, 3, 3) and `bias` (`k`) from `vb` and creates a layer from them. If
    /// `vb` creates missing tensors, as with a `VarMap`, they are initialized as in
    /// [`candle_nn::conv2d`].
    ///
    /// # Errors
    ///
    /// Returns an error if `vb` neither has nor creates tensors of these names and shapes, and the
    /// errors of [`ConvLayer::new`].
    pub fn load(
        c: usize,
        k: usize,
        pool: bool,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        let bound = 1.0 / (c as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let bias = vb.get_with_hints(k, "bias", init)?;
        Self::new(load_weight(c, k, &vb)?, bias, pool)
    }

    /// Like [`ConvLayer::load`], with a constant bias of zero: `vb` needs only `weight`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ConvLayer::load`].
    pub fn load_no_bias(
        c: usize,
        k: usize,
        pool: bool,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, Error> {
        let bias = Tensor::zeros(k, vb.dtype(), vb.device())?;
        Self::new(load_weight(c, k, &vb)?, bias, pool)
    }

    /// Removes the ReLU.
    pub fn without_relu(self) -> Self {
        Self {
            relu: false,
            ..self
        }
    }

    /// Removes the max pool. The layer shares the cached transform of its weight with the original.
    pub fn without_pool(self) -> Self {
        Self {
            pool: false,
            ..self
        }
    }

    /// Stores the gradients of the weight and the bias in `grad_sink` instead of candle's
    /// `GradStore`. Gradients of tensors that are not variables still go to the `GradStore`.
    /// Devices other than the CPU ignore the sink.
    pub fn with_grad_sink(self, grad_sink: &GradSink) -> Self {
        Self {
            grad_sink: Some(grad_sink.clone()),
            ..self
        }
    }

    pub(crate) fn tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the transformed weight, which is cached if the weight is not tracked.
    fn transformed(&self) -> Result<Arc<TransformedWeights>> {
        if let Some(transformed) = self.transformed.get() {
            return Ok(Arc::clone(transformed));
        }
        let (k, c, _, _) = self.weight.dims4()?;
        let transformed = with_values(&self.weight, |weight| {
            weights::transform(self.isa, weight, KernelLayout::forward(k, c))
        })??;
        let transformed = Arc::new(transformed);
        if self.weight.track_op() {
            return Ok(transformed);
        }
        // If another thread stored its result first, this returns the other result, which is equal.
        Ok(Arc::clone(self.transformed.get_or_init(|| transformed)))
    }
}

fn load_weight(c: usize, k: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints(
        (k, c, 3, 3),
        "weight",
        candle_nn::init::DEFAULT_KAIMING_NORMAL,
    )
}

/// A layer with its weight transformed and its bias copied out of the tensor.
pub(crate) struct PreparedLayer {
    weights: Arc<TransformedWeights>,
    bias: Vec<f32>,
    relu: bool,
    pub(crate) pool: bool,
}

impl PreparedLayer {
    pub(crate) fn new(layer: &ConvLayer) -> Result<Self> {
        Ok(Self {
            weights: layer.transformed()?,
            bias: layer.bias.to_vec1()?,
            relu: layer.relu,
            pool: layer.pool,
        })
    }

    /// Runs the layer on `x` with shape `from` and writes the output to `y`, both NCHWc16. If the
    /// layer has a pool, `indices` receives the index of the first maximum of each pooling window.
    /// The halo of `y` and its padding to whole tiles must be zero.
    pub(crate) fn run(
        &self,
        x: &[f32],
        from: NchwcShape,
        y: &mut [f32],
        indices: Option<&mut [u8]>,
    ) -> std::result::Result<(), Error> {
        let epilogue = Epilogue {
            bias: Some(&self.bias),
            relu: self.relu,
            pool: self.pool,
            indices,
        };
        convolve(x, from, &self.weights, self.bias.len(), epilogue, y)
    }
}
