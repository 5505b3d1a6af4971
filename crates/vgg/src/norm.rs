//! Batch norm with fixed running statistics, folded into the preceding convolution.
//!
//! S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
//! Internal Covariate Shift" (2015); torch/nn/modules/batchnorm.py in eval mode:
//!
//! ```text
//! y = γ · (w ∗ x + b − mean) / √(var + ε) + β
//!   = (s·w) ∗ x + (s·(b − mean) + β),   s = γ / √(var + ε)
//! ```
//!
//! Training updates γ and β but not the running statistics, as PyTorch's `nn.BatchNorm2d` does
//! after `.eval()`. In `.train()` mode PyTorch uses the statistics of each batch and updates the
//! running ones. Fixed statistics are common with few or small batches. Folding uses candle's
//! operations on the weights, so w, b, γ and β get gradients, and the convolution uses the fast
//! kernels.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// The default ε in torch/nn/modules/batchnorm.py.
const EPSILON: f64 = 1e-5;

/// The tensors of a batch norm, each of shape (channels).
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl BatchNorm {
    /// Gets `weight`, `bias`, `running_mean` and `running_var` from `vb`.
    pub(crate) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            mean: vb.get_with_hints(channels, "running_mean", Init::Const(0.0))?,
            variance: vb.get_with_hints(channels, "running_var", Init::Const(1.0))?,
        })
    }

    /// Whether autograd tracks the weight or the bias of the batch norm.
    pub(crate) fn is_tracked(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    /// Folds the batch norm into a convolution. Returns a weight (k, c, 3, 3) and a bias (k).
    pub(crate) fn fold(&self, weight: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
        // The running statistics are not trained, so the square root needs no gradient.
        let deviation = (self.variance.detach() + EPSILON)?.sqrt()?;
        let scale = (&self.weight / deviation)?;
        let folded = weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        let shift = ((bias - self.mean.detach())? * scale)?;
        Ok((folded, (shift + &self.bias)?))
    }
}
