//! ReLU that propagates NaN.
//!
//! candle's `relu` maps NaN to 0, which hides that a network has diverged. PyTorch propagates NaN,
//! and lets gradients pass at NaN.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use crate::device;
use crate::storage::contiguous;

/// max(0, x) for any shape. NaN stays NaN.
///
/// # Errors
///
/// Returns an error if `x` is on the CPU and not f32, or if a tensor operation fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    match x.device() {
        Device::Cpu => x.contiguous()?.apply_op1(Relu),
        _ => device::relu(x),
    }
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, layout)?;
        let y = x.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // NaN ≤ 0 is false, so the gradient passes at NaN, as in PyTorch.
        let mask = y.le(0.0)?.eq(0u8)?.to_dtype(grad.dtype())?;
        (grad * mask).map(Some)
    }
}
