//! The gradient of a 3x3 kernel by cuDNN, which candle's operations do not reach.
//!
//! f32 goes through TF32 where cuDNN likes to, as in candle's own `conv2d` and in PyTorch by default;
//! `NVIDIA_TF32_OVERRIDE=0` in the environment keeps NVIDIA's libraries from it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cudnn::safe::{ConvBackwardFilter, Cudnn};
use candle_core::cuda_backend::cudarc::cudnn::{CudnnDataType, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr, ValidAsZeroBits};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, DeviceId};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp2, Layout, Result, Shape};
use candle_core::{Tensor, WithDType, bail};

/// `x` (n, c, h, w), `g` (n, k, h, w) on one GPU, f32 or bf16 → (k, c, 3, 3).
pub(super) fn weight_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    x.contiguous()?
        .apply_op2_no_bwd(&g.contiguous()?, &WeightGradient)
}

thread_local! {
    // A handle belongs to one thread, as cuDNN's documentation asks.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
}

fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(Arc::clone(handle));
        }
        let handle = Cudnn::new(device.cuda_stream())?;
        handles.insert(device.id(), Arc::clone(&handle));
        Ok(handle)
    })
}

struct WeightGradient;

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "vgg-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("cuDNN runs on NVIDIA's GPUs")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        g: &CudaStorage,
        g_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let device = x.device();
        match (&x.slice, &g.slice) {
            (CudaStorageSlice::F32(x), CudaStorageSlice::F32(g)) => {
                launch(device, x, x_layout, g, g_layout)
            }
            (CudaStorageSlice::BF16(x), CudaStorageSlice::BF16(g)) => {
                launch(device, x, x_layout, g, g_layout)
            }
            _ => bail!(
                "a convolution's gradient is f32 or bf16, not {:?} and {:?}",
                x.dtype(),
                g.dtype()
            ),
        }
    }
}

fn launch<T>(
    device: &CudaDevice,
    x: &CudaSlice<T>,
    x_layout: &Layout,
    g: &CudaSlice<T>,
    g_layout: &Layout,
) -> Result<(CudaStorage, Shape)>
where
    T: WithDType + CudaDType + DeviceRepr + ValidAsZeroBits + CudnnDataType,
{
    let (n, c, h, w) = x_layout.shape().dims4()?;
    let (_, k, _, _) = g_layout.shape().dims4()?;
    let int = |size: usize| i32::try_from(size).map_err(candle_core::Error::wrap);
    let [n, c, h, w, k32] = [int(n)?, int(c)?, int(h)?, int(w)?, int(k)?];
    let cudnn = handle(device)?;
    // Sums are f32 for both types: cuDNN knows no other for bf16.
    let convolution = cudnn.create_conv2d::<f32>(
        [1, 1],
        [1, 1],
        [1, 1],
        sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
    )?;
    let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
    let x_described = cudnn.create_4d_tensor::<T>(format, [n, c, h, w])?;
    let g_described = cudnn.create_4d_tensor::<T>(format, [n, k32, h, w])?;
    let w_described = cudnn.create_4d_filter::<T>(format, [k32, c, 3, 3])?;
    let operation = ConvBackwardFilter {
        conv: &convolution,
        x: &x_described,
        dw: &w_described,
        dy: &g_described,
    };
    let algorithm = operation.pick_algorithm()?;
    let bytes = operation.get_workspace_size(algorithm)?;
    let shape = Shape::from((k, x_layout.dims()[1], 3, 3));
    let x = x.slice(x_layout.start_offset()..);
    let g = g.slice(g_layout.start_offset()..);
    let mut workspace = device.alloc_zeros::<u8>(bytes.max(1))?;
    let mut gradient: CudaSlice<T> = device.alloc_zeros(shape.elem_count())?;
    // SAFETY: the descriptors say what the slices hold: both tensors are contiguous from their offset on (the
    // caller made them so), the gradient has the filter's size, and the workspace the size that was asked for.
    unsafe {
        operation.launch(
            algorithm,
            Some(&mut workspace),
            (T::one(), T::zero()),
            &x,
            &mut gradient,
            &g,
        )?;
    }
    Ok((
        CudaStorage::wrap_cuda_slice(gradient, device.clone()),
        shape,
    ))
}
