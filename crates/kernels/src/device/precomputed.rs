//! Adds an already computed result to candle's autograd graph.
//!
//! candle's custom operations work on storages. The layers for GPUs are written with tensors
//! instead, so they compute their result first and pass it to a custom operation that only returns
//! a copy.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

/// Gradients of the three arguments. `None` for arguments that need no gradient.
type Gradients = [Option<Tensor>; 3];

/// Adds `y` to the graph as the result of an operation on `arguments`, with gradients computed by
/// `backward`.
///
/// `y` must be detached. `backward` receives the arguments, `y` and the gradient of `y`, all
/// detached, and a flag per argument that is true if the argument is tracked. The gradient of `y`
/// is contiguous. If no argument is tracked, `y` is returned unchanged.
pub(super) fn precomputed<B>(y: Tensor, arguments: [&Tensor; 3], backward: B) -> Result<Tensor>
where
    B: Fn([&Tensor; 3], &Tensor, &Tensor, [bool; 3]) -> Result<Gradients> + Send + Sync + 'static,
{
    let [a, b, c] = arguments;
    if !arguments.iter().any(|argument| argument.track_op()) {
        return Ok(y);
    }
    let y = Mutex::new(Some(y));
    a.apply_op3(b, c, PrecomputedOp { y, backward })
}

struct PrecomputedOp<B> {
    y: Mutex<Option<Tensor>>,
    backward: B,
}

impl<B> PrecomputedOp<B> {
    fn take(&self) -> Result<Tensor> {
        let taken = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some(y) => y.contiguous(),
            None => bail!("the precomputed result was already taken"),
        }
    }
}

/// Copies the storage of `y` on its device, because candle cannot move the storage out of a tensor.
macro_rules! storage {
    ($self:ident, $kind:ident) => {{
        let y = $self.take()?;
        let (storage, layout) = y.storage_and_layout();
        match &*storage {
            Storage::$kind(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("the precomputed result is on a different device than the arguments"),
        }
    }};
}

impl<B> CustomOp3 for PrecomputedOp<B>
where
    B: Fn([&Tensor; 3], &Tensor, &Tensor, [bool; 3]) -> Result<Gradients> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "precomputed"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        storage!(self, Cpu)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        storage!(self, Cuda)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        storage!(self, Metal)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let needs_grad = [a, b, c].map(Tensor::track_op);
        let [a, b, c] = [a, b, c].map(Tensor::detach);
        let gradient = gradient.contiguous()?.detach();
        let [a, b, c] = (self.backward)([&a, &b, &c], &y.detach(), &gradient, needs_grad)?;
        Ok((a, b, c))
    }
}
