//! Convolutions by cuDNN, and the gradient of their kernels.
//!
//! candle's own `conv2d` goes to cuDNN too, but with the algorithm that cuDNN names first: f32 is then rounded to
//! TF32, and the memory beside the tensors has no bound and is cleared each time. The kernel's gradient is none of
//! candle's operations. Here both
//!
//! - give the same bits each time, with at most [`SCRATCH`] bytes beside the tensors (`algorithm.rs`);
//! - compute f32 in f32, unless candle was told that products of f32 may be rounded to TF32
//!   (`candle_core::cuda::set_gemm_reduced_precision_f32`), which then holds here too;
//! - go to the queue of the GPU that candle's operations go to.

mod descriptors;
mod problem;

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

use descriptors::Handle;
use problem::{Plan, Problem};

/// Whether these functions take tensors such as `x`.
pub(super) fn takes(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// w ∗ x, stride 1, padding 1: `x` (n, c, h, w), `weight` (k, c, 3, 3) → (n, k, h, w).
pub(super) fn convolve(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    aligned(x)?.apply_op2_no_bwd(&aligned(weight)?, &Operation::Convolution)
}

/// `x` (n, c, h, w), `g` (n, k, h, w) → (k, c, 3, 3).
pub(super) fn weight_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    aligned(x)?.apply_op2_no_bwd(&aligned(g)?, &Operation::WeightGradient)
}

/// `x` in one piece that begins at a multiple of 16 bytes: tensor cores read as many at a time.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let start = x.layout().start_offset() * x.dtype().size_in_bytes();
    if start.is_multiple_of(16) {
        x.contiguous()
    } else {
        x.force_contiguous()
    }
}

thread_local! {
    // A handle belongs to one thread, as cuDNN's documentation asks; and so does the queue: candle's is the one that
    // CUDA has for each thread.
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    // Each step has the same problems as the one before.
    static PLANS: RefCell<HashMap<Key, Plan>> = RefCell::default();
}

/// What a plan depends on; the last is the sizes.
type Key = (DeviceId, Operation, DType, cudnnMathType_t, [usize; 5]);

/// How many plans are remembered: more than there are in training, and pictures of many sizes do not fill the memory.
const MOST_PLANS: usize = 1024;

fn handle(device: &CudaDevice) -> Result<Rc<Handle>> {
    let stream = device.cuda_stream();
    // cuDNN works on the thread's current GPU, which may have been another one's since.
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
            Self::Convolution => "vgg-convolution",
            Self::WeightGradient => "vgg-weight-gradient",
        }
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
        other: &CudaStorage,
        other_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let run = match x.dtype() {
            DType::F32 => Self::run::<f32>,
            DType::BF16 => Self::run::<half::bf16>,
            dtype => bail!("a convolution by cuDNN is in f32 or bf16, not {dtype:?}"),
        };
        run(*self, x, x_layout, other, other_layout).map_err(|error| {
            let (x, other) = (x_layout.shape(), other_layout.shape());
            error.context(format!("{} by cuDNN of {x:?} and {other:?}", self.name()))
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
                Self::WeightGradient => problem.backward()?,
            };
            if plans.len() == MOST_PLANS {
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
        let of_other = other_layout.shape().dims4()?;
        let (k, expected, shape) = match self {
            Self::Convolution => (of_other.0, (of_other.0, c, 3, 3), [n, of_other.0, h, w]),
            Self::WeightGradient => (of_other.1, (n, of_other.1, h, w), [of_other.1, c, 3, 3]),
        };
        if of_other != expected {
            bail!("the shapes do not fit");
        }
        let shape = Shape::from(shape.as_slice());
        let x = contiguous::<T>(x, x_layout)?;
        let other = contiguous::<T>(other, other_layout)?;

        let sizes = [n, c, k, h, w];
        let problem = Problem::new(handle(device)?, T::DTYPE, sizes)?;
        let key = (device.id(), self, T::DTYPE, problem.math(), sizes);
        let plan = self.plan(key, &problem)?;
        // SAFETY: cuDNN writes all of the result, as β is 0, and the workspace before it reads it.
        let (mut y, mut workspace) = unsafe {
            let y = device.alloc::<T>(shape.elem_count())?;
            // The driver allocates no empty memory.
            (y, device.alloc::<u8>(plan.bytes.max(1))?)
        };
        {
            let stream = device.cuda_stream();
            let (x, _x) = x.device_ptr(&stream);
            let (other, _other) = other.device_ptr(&stream);
            let (y, _y) = y.device_ptr_mut(&stream);
            let (workspace, _workspace) = workspace.device_ptr_mut(&stream);
            let pointers = [x, other, y, workspace].map(|at| at as *mut c_void);
            // SAFETY: the descriptors say what lies there: `contiguous` gave x and the other argument, whose shapes
            // were checked, the result was allocated with its shape, and the workspace as planned. All is of this
            // device, and is freed in the order of its queue.
            unsafe { problem.launch(plan, pointers)? };
        }
        Ok((CudaStorage::wrap_cuda_slice(y, device.clone()), shape))
    }
}

/// The elements of a tensor that lies in one piece.
fn contiguous<'a, T: CudaDType>(
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(storage.as_cuda_slice::<T>()?.slice(from..to)),
        None => bail!("the operation needs contiguous tensors"),
    }
}
