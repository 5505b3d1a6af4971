//! Convolutions and their weight gradients with cuDNN.
//!
//! candle's own `conv2d` can use cuDNN, but always takes the algorithm that the heuristics rank
//! first. That algorithm may round f32 to TF32, and its workspace has no limit and is zeroed for
//! every call. candle has no operation for the weight gradient. The operations in this file:
//!
//! - are deterministic, with a workspace of at most
//!   [`DEVICE_WORKSPACE`](crate::tuning::DEVICE_WORKSPACE) bytes (`cudnn_algorithm.rs`);
//! - compute f32 in f32, unless TF32 is allowed for candle's matrix products
//!   (`candle_core::cuda::set_gemm_reduced_precision_f32`);
//! - run on the same CUDA stream as candle's operations.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cudnn::sys::cudnnMathType_t;
use candle_core::cuda_backend::cudarc::driver::{CudaView, DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, DeviceId};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor,
    WithDType, bail,
};

use super::cudnn_descriptors::Handle;
use super::cudnn_problem::{Plan, Problem};

/// Whether [`convolve`] and [`weight_gradient`] support the device and dtype of `x`.
pub(super) fn supports(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// w ∗ x, stride 1, padding 1: `x` (n, c, h, w), `weight` (k, c, 3, 3) → (n, k, h, w).
pub(super) fn convolve(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    aligned(x)?.apply_op2_no_bwd(&aligned(weight)?, &Operation::Convolution)
}

/// Gradient of the weight from the input `x` (n, c, h, w) and the output gradient `g` (n, k, h, w)
/// → (k, c, 3, 3).
pub(super) fn weight_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    aligned(x)?.apply_op2_no_bwd(&aligned(g)?, &Operation::WeightGradient)
}

/// Makes `x` contiguous and aligned to 16 bytes, the size of vector loads for the tensor cores.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let start = x.layout().start_offset() * x.dtype().size_in_bytes();
    if start.is_multiple_of(16) {
        x.contiguous()
    } else {
        x.force_contiguous()
    }
}

thread_local! {
    // Threads must not use a cuDNN handle at the same time. candle uses CUDA's per-thread default
    // stream, so each thread also has its own stream.
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    // The selected algorithms, cached because every training step repeats the same convolutions.
    static PLANS: RefCell<HashMap<Key, Plan>> = RefCell::default();
}

/// Everything that a plan depends on. The last element holds the sizes n, c, k, h and w.
type Key = (DeviceId, Operation, DType, cudnnMathType_t, [usize; 5]);

/// Maximum number of cached plans per thread. Training needs fewer. The limit bounds the memory if
/// image sizes vary.
const MAX_PLANS: usize = 1024;

fn handle(device: &CudaDevice) -> Result<Rc<Handle>> {
    let stream = device.cuda_stream();
    // cuDNN uses the current GPU of the thread, which other code may have changed.
    stream.context().bind_to_thread()?;
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(Rc::clone(handle));
        }
        let handle = Rc::new(Handle::new(stream)?);
        handles.insert(device.id(), Rc::clone(&handle));
        Ok(handle)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Convolution,
    WeightGradient,
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::Convolution => "cudnn-convolution",
            Self::WeightGradient => "cudnn-weight-gradient",
        }
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("cuDNN needs an NVIDIA GPU")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        other: &CudaStorage,
        other_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let run = match x.dtype() {
            DType::F32 => Self::run::<f32>,
            DType::BF16 => Self::run::<half::bf16>,
            dtype => bail!("cuDNN convolutions support f32 and bf16, not {dtype:?}"),
        };
        run(*self, x, x_layout, other, other_layout).map_err(|error| {
            let (x, other) = (x_layout.shape(), other_layout.shape());
            error.context(format!("{} of shapes {x:?} and {other:?}", self.name()))
        })
    }
}

impl Operation {
    fn plan(self, key: Key, problem: &Problem) -> Result<Plan> {
        PLANS.with_borrow_mut(|plans| {
            if let Some(plan) = plans.get(&key) {
                return Ok(*plan);
            }
            let plan = match self {
                Self::Convolution => problem.forward()?,
                Self::WeightGradient => problem.backward_filter()?,
            };
            if plans.len() == MAX_PLANS {
                plans.clear();
            }
            plans.insert(key, plan);
            Ok(plan)
        })
    }

    fn run<T>(
        self,
        x: &CudaStorage,
        x_layout: &Layout,
        other: &CudaStorage,
        other_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)>
    where
        T: WithDType + CudaDType + DeviceRepr,
    {
        let device = x.device();
        let (n, c, h, w) = x_layout.shape().dims4()?;
        let other_dims = other_layout.shape().dims4()?;
        let (k, expected, shape) = match self {
            Self::Convolution => (
                other_dims.0,
                (other_dims.0, c, 3, 3),
                [n, other_dims.0, h, w],
            ),
            Self::WeightGradient => (
                other_dims.1,
                (n, other_dims.1, h, w),
                [other_dims.1, c, 3, 3],
            ),
        };
        if other_dims != expected {
            bail!("expected shape {expected:?}, got {other_dims:?}");
        }
        let shape = Shape::from(shape.as_slice());
        let x = contiguous::<T>(x, x_layout)?;
        let other = contiguous::<T>(other, other_layout)?;

        let sizes = [n, c, k, h, w];
        let problem = Problem::new(handle(device)?, T::DTYPE, sizes)?;
        let key = (device.id(), self, T::DTYPE, problem.math(), sizes);
        let plan = self.plan(key, &problem)?;
        // SAFETY: neither buffer is read before it is written. cuDNN writes every element of the
        // result because β = 0, and it initializes the parts of the workspace that it reads.
        let (mut y, mut workspace) = unsafe {
            let y = device.alloc::<T>(shape.elem_count())?;
            // The driver rejects allocations of 0 bytes.
            (y, device.alloc::<u8>(plan.bytes.max(1))?)
        };
        {
            let stream = device.cuda_stream();
            let (x, _x) = x.device_ptr(&stream);
            let (other, _other) = other.device_ptr(&stream);
            let (y, _y) = y.device_ptr_mut(&stream);
            let (workspace, _workspace) = workspace.device_ptr_mut(&stream);
            let pointers = [x, other, y, workspace].map(|address| address as *mut c_void);
            // SAFETY: the buffers match the descriptors. `contiguous` returned `x` and `other`,
            // whose shapes were checked above; `y` was allocated with the shape of the result and
            // the workspace with `plan.bytes`. All four are on `device`, and they are freed in
            // stream order, after the launched work.
            unsafe { problem.launch(plan, pointers)? };
        }
        Ok((CudaStorage::wrap_cuda_slice(y, device.clone()), shape))
    }
}

/// Returns the elements of a tensor on the GPU, or an error if the tensor is not contiguous.
fn contiguous<'a, T: CudaDType>(
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(storage.as_cuda_slice::<T>()?.slice(from..to)),
        None => bail!("the tensor is not contiguous"),
    }
}
