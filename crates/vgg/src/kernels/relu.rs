//! max(0, x) that lets NaN through.
//!
//! candle's `relu` turns NaN into 0, so that a network that diverged would look sound. PyTorch's keeps it.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

/// max(0, x), any shape; NaN stays NaN.
///
/// Errors: candle's.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    match x.device() {
        Device::Cpu => x.contiguous()?.apply_op1(Relu),
        _ => super::device::relu(x),
    }
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "vgg-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = super::conv::contiguous(x, layout)?;
        let y = x.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let passes = y.gt(0.0)?.to_dtype(grad.dtype())?;
        (grad * passes).map(Some)
    }
}
