//! One convolution as cuDNN sees it: which algorithms it has for it, and running one.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{DType, Error, Result, bail};
use sys::cudnnConvolutionBwdFilterAlgo_t as BackwardAlgorithm;
use sys::cudnnConvolutionFwdAlgo_t as ForwardAlgorithm;
use sys::cudnnMathType_t as Math;

use super::descriptors::{ConvolutionDescriptor, FilterDescriptor, Handle, TensorDescriptor};
use crate::kernels::device::SCRATCH;
use crate::kernels::device::algorithm::{Candidate, first_deterministic};

/// Pictures, a kernel, results and the convolution between them.
pub(super) struct Problem {
    handle: Rc<Handle>,
    x: TensorDescriptor,
    weight: FilterDescriptor,
    y: TensorDescriptor,
    convolution: ConvolutionDescriptor,
    /// How it may be multiplied.
    math: Math,
}

/// How one of its three tensors is computed from the other two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    algorithm: Algorithm,
    math: Math,
    /// What it needs beside the tensors.
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    /// y from x and the kernel.
    Forward(ForwardAlgorithm),
    /// The kernel's gradient from x and that of y.
    Backward(BackwardAlgorithm),
}

/// What cuDNN says about an algorithm.
struct Named {
    algorithm: Algorithm,
    status: sys::cudnnStatus_t,
    determinism: sys::cudnnDeterminism_t,
    math: Math,
}

/// cuDNN says the same of each kind of algorithm, in a type of its own.
macro_rules! named {
    ($said:ty, $kind:path) => {
        impl From<$said> for Named {
            fn from(said: $said) -> Self {
                Self {
                    algorithm: $kind(said.algo),
                    status: said.status,
                    determinism: said.determinism,
                    math: said.mathType,
                }
            }
        }
    };
}

named!(sys::cudnnConvolutionFwdAlgoPerf_t, Algorithm::Forward);
named!(
    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
    Algorithm::Backward
);

impl Problem {
    /// (n, c, h, w) ∗ (k, c, 3, 3) → (n, k, h, w) in `dtype`, f32 or bf16.
    pub(super) fn new(
        handle: Rc<Handle>,
        dtype: DType,
        [n, c, k, h, w]: [usize; 5],
    ) -> Result<Self> {
        let int = |size: usize| c_int::try_from(size).map_err(Error::wrap);
        let [n, c, k, h, w] = [int(n)?, int(c)?, int(k)?, int(h)?, int(w)?];
        let (kind, math) = match dtype {
            DType::F32 => {
                // In the default mode cuDNN rounds f32 to TF32 on GPUs that can.
                let math = if gemm_reduced_precision_f32() {
                    Math::CUDNN_DEFAULT_MATH
                } else {
                    Math::CUDNN_FMA_MATH
                };
                (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, math)
            }
            DType::BF16 => (
                sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
                Math::CUDNN_TENSOR_OP_MATH,
            ),
            _ => bail!("a convolution by cuDNN is in f32 or bf16, not {dtype:?}"),
        };
        Ok(Self {
            handle,
            x: TensorDescriptor::new(kind, [n, c, h, w])?,
            weight: FilterDescriptor::new(kind, [k, c])?,
            y: TensorDescriptor::new(kind, [n, k, h, w])?,
            convolution: ConvolutionDescriptor::new(math)?,
            math,
        })
    }

    /// How it may be multiplied.
    pub(super) fn math(&self) -> Math {
        self.math
    }

    /// How y is computed.
    pub(super) fn forward(&self) -> Result<Plan> {
        let most = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_COUNT as c_int;
        let named = ask(most, |most, count, to| {
            // SAFETY: handle and descriptors live as long as `self`; `to` has room for `most`.
            unsafe {
                result::get_convolution_forward_algorithm(
                    self.handle.raw(),
                    self.x.raw(),
                    self.weight.raw(),
                    self.convolution.raw(),
                    self.y.raw(),
                    most,
                    count,
                    to,
                )
            }
        })?;
        let last = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        self.choose(named, Algorithm::Forward(last))
    }

    /// How the kernel's gradient is computed.
    pub(super) fn backward(&self) -> Result<Plan> {
        let most = BackwardAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT as c_int;
        let named = ask(most, |most, count, to| {
            // SAFETY: handle and descriptors live as long as `self`; `to` has room for `most`.
            unsafe {
                result::get_convolution_backward_filter_algorithm(
                    self.handle.raw(),
                    self.x.raw(),
                    self.y.raw(),
                    self.convolution.raw(),
                    self.weight.raw(),
                    most,
                    count,
                    to,
                )
            }
        })?;
        let last = BackwardAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        self.choose(named, Algorithm::Backward(last))
    }

    /// The first of `named` that may be taken. `last` is tried where none of them is: it is documented to give the same
    /// bits each time, and what PyTorch takes when that is asked for.
    fn choose<P>(&self, named: Vec<P>, last: Algorithm) -> Result<Plan>
    where
        Named: From<P>,
    {
        let last = Named {
            algorithm: last,
            status: sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
            determinism: sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
            math: self.math,
        };
        let named = named.into_iter().map(Named::from).chain([last]);
        let candidates = named.map(|named| {
            // An algorithm is meant in the mode that cuDNN names with it; but f32 stays f32.
            let math = match self.math {
                Math::CUDNN_FMA_MATH => self.math,
                _ => named.math,
            };
            let bytes = named.status.result().map_err(Error::wrap);
            let bytes = bytes
                .and_then(|()| self.convolution.set_math(math))
                .and_then(|()| self.workspace(named.algorithm));
            Candidate {
                algorithm: (named.algorithm, math),
                deterministic: named.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                workspace: bytes.ok(),
            }
        });
        let Some(((algorithm, math), bytes)) = first_deterministic(candidates, SCRATCH) else {
            bail!(
                "cuDNN has no algorithm for it that gives the same result each time and needs at most {} MiB beside \
                 the tensors; try smaller batches, or build without the feature `cudnn`",
                SCRATCH >> 20
            );
        };
        Ok(Plan {
            algorithm,
            math,
            bytes,
        })
    }

    fn workspace(&self, algorithm: Algorithm) -> Result<usize> {
        let (handle, x, y) = (self.handle.raw(), self.x.raw(), self.y.raw());
        let (weight, convolution) = (self.weight.raw(), self.convolution.raw());
        // SAFETY: handle and descriptors live as long as `self`.
        let bytes = unsafe {
            match algorithm {
                Algorithm::Forward(algorithm) => result::get_convolution_forward_workspace_size(
                    handle,
                    x,
                    weight,
                    convolution,
                    y,
                    algorithm,
                ),
                Algorithm::Backward(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(
                        handle,
                        x,
                        y,
                        convolution,
                        weight,
                        algorithm,
                    )
                }
            }
        };
        Ok(bytes?)
    }

    /// Queues what was planned for a problem like this: from x and the kernel to y, or from x and the gradient of y to
    /// that of the kernel.
    ///
    /// # Safety
    ///
    /// The pointers lead to memory of the handle's GPU that stays there until its queue has come to this: x, the second
    /// argument and the result lie as their descriptors say, and the workspace has as many bytes as the plan says.
    pub(super) unsafe fn launch(
        &self,
        plan: Plan,
        [x, other, result, workspace]: [*mut c_void; 4],
    ) -> Result<()> {
        self.convolution.set_math(plan.math)?;
        let (one, zero) = (1f32, 0f32);
        let (alpha, beta) = ((&raw const one).cast(), (&raw const zero).cast());
        let (handle, convolution) = (self.handle.raw(), self.convolution.raw());
        // SAFETY: the caller's promise; handle and descriptors live as long as `self`, and the factors are read before
        // the call returns.
        let queued = unsafe {
            match plan.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle,
                    alpha,
                    self.x.raw(),
                    x,
                    self.weight.raw(),
                    other,
                    convolution,
                    algorithm,
                    workspace,
                    plan.bytes,
                    beta,
                    self.y.raw(),
                    result,
                ),
                Algorithm::Backward(algorithm) => result::convolution_backward_filter(
                    handle,
                    alpha,
                    self.x.raw(),
                    x,
                    self.y.raw(),
                    other,
                    convolution,
                    algorithm,
                    workspace,
                    plan.bytes,
                    beta,
                    self.weight.raw(),
                    result,
                ),
            }
        };
        queued?;
        Ok(())
    }
}

/// What cuDNN names, at most `most` of them. `question` takes this number, where to write how many there are, and where
/// to write them.
fn ask<P>(
    most: c_int,
    question: impl FnOnce(c_int, *mut c_int, *mut P) -> std::result::Result<(), CudnnError>,
) -> Result<Vec<P>> {
    let mut named = Vec::with_capacity(usize::try_from(most).map_err(Error::wrap)?);
    let mut count = 0;
    question(most, &mut count, named.as_mut_ptr())?;
    let count = usize::try_from(count.min(most)).unwrap_or_default();
    // SAFETY: cuDNN has written so many, and there is room for `most`.
    unsafe { named.set_len(count) };
    Ok(named)
}
