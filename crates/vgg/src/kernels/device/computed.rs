//! A result that exists already, as an operation of the graph.
//!
//! candle asks a custom operation for its result in terms of storages. What is written with tensors is computed
//! beforehand and handed over here.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

/// The gradients of the three arguments, where wanted: from the arguments, the result and its gradient.
type Gradients = [Option<Tensor>; 3];

/// Makes `y` the result of an operation on `arguments`, whose gradients `backward` computes.
///
/// `y` must have no graph. What `backward` gets has none either, its gradient is contiguous, and the flags say
/// which arguments are tracked. Without a tracked argument, `y` is returned as it is.
pub(super) fn computed<B>(y: Tensor, arguments: [&Tensor; 3], backward: B) -> Result<Tensor>
where
    B: Fn([&Tensor; 3], &Tensor, &Tensor, [bool; 3]) -> Result<Gradients> + Send + Sync + 'static,
{
    let [a, b, c] = arguments;
    if !arguments.iter().any(|argument| argument.track_op()) {
        return Ok(y);
    }
    let y = Mutex::new(Some(y));
    a.apply_op3(b, c, Computed { y, backward })
}

struct Computed<B> {
    y: Mutex<Option<Tensor>>,
    backward: B,
}

impl<B> Computed<B> {
    fn take(&self) -> Result<Tensor> {
        let taken = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some(y) => y.contiguous(),
            None => bail!("the result of an operation was asked for twice"),
        }
    }
}

/// The storage of `y`, which candle does not give away: a copy on the device.
macro_rules! storage {
    ($self:ident, $kind:ident) => {{
        let y = $self.take()?;
        let (storage, layout) = y.storage_and_layout();
        match &*storage {
            Storage::$kind(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("the result of an operation lies on another device than its arguments"),
        }
    }};
}

impl<B> CustomOp3 for Computed<B>
where
    B: Fn([&Tensor; 3], &Tensor, &Tensor, [bool; 3]) -> Result<Gradients> + Send + Sync,
{
    fn name(&self) -> &'static str {
        "vgg-computed"
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
        let wanted = [a, b, c].map(Tensor::track_op);
        let [a, b, c] = [a, b, c].map(Tensor::detach);
        let gradient = gradient.contiguous()?.detach();
        let [a, b, c] = (self.backward)([&a, &b, &c], &y.detach(), &gradient, wanted)?;
        Ok((a, b, c))
    }
}
