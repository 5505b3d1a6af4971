//! Batch norm with fixed statistics, folded into the convolution before it.
//!
//! S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
//! Covariate Shift" (2015); torch/nn/modules/batchnorm.py in eval mode:
//!
//! ```text
//! y = γ · (w ∗ x + b − mean) / √(var + ε) + β  =  (s·w) ∗ x + (s·(b − mean) + β),   s = γ / √(var + ε)
//! ```
//!
//! The running statistics stay as they were loaded, in training too, as is usual where batches are few or small;
//! γ and β train. That is what `nn.BatchNorm2d` does in PyTorch after `.eval()`, where training in
//! `.train()` would use each batch's own statistics and move the running ones. Folding is made of candle's
//! operations on the small weights, so that gradients reach w, b, γ and β, and the convolution stays the fast one.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// ε of torch/nn/modules/batchnorm.py.
const EPSILON: f64 = 1e-5;

/// The four vectors of a batch norm, each as long as the convolution has channels.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl BatchNorm {
    /// `weight`, `bias`, `running_mean` and `running_var` of `vb`.
    pub(crate) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            mean: vb.get_with_hints(channels, "running_mean", Init::Const(0.0))?,
            variance: vb.get_with_hints(channels, "running_var", Init::Const(1.0))?,
        })
    }

    /// Whether autograd follows its scale or shift.
    pub(crate) fn tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    /// Weight (k, c, 3, 3) and bias (k) of the one convolution that is `weight` and `bias` and then this.
    pub(crate) fn fold(&self, weight: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
        // The statistics never train, so that no gradient is asked of a square root.
        let deviation = (self.variance.detach() + EPSILON)?.sqrt()?;
        let scale = (&self.weight / deviation)?;
        let folded = weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        let shift = ((bias - self.mean.detach())? * scale)?;
        Ok((folded, (shift + &self.bias)?))
    }
}
