//! Selects the algorithm of one cuDNN convolution and launches it.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{DType, Error, Result, bail};
use sys::cudnnConvolutionBwdFilterAlgo_t as BackwardFilterAlgorithm;
use sys::cudnnConvolutionFwdAlgo_t as ForwardAlgorithm;
use sys::cudnnMathType_t as Math;

use super::cudnn_algorithm::{Candidate, first_deterministic};
use super::cudnn_descriptors::{ConvolutionDescriptor, FilterDescriptor, Handle, TensorDescriptor};
use crate::tuning::DEVICE_WORKSPACE;

/// The cuDNN handle, and the descriptors of the input, the filter, the output and the convolution.
pub(super) struct Problem {
    handle: Rc<Handle>,
    x: TensorDescriptor,
    weight: FilterDescriptor,
    y: TensorDescriptor,
    convolution: ConvolutionDescriptor,
    /// The requested math type: FMA, tensor cores, or cuDNN's default.
    math: Math,
}

/// The selected algorithm for one operation of a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    algorithm: Algorithm,
    math: Math,
    /// Workspace size in bytes.
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    /// Computes y from x and the filter.
    Forward(ForwardAlgorithm),
    /// Computes the filter gradient from x and the gradient of y.
    BackwardFilter(BackwardFilterAlgorithm),
}

/// One entry of the list that the cuDNN heuristics return (`cudnnConvolution*AlgoPerf_t`).
struct AlgorithmPerf {
    algorithm: Algorithm,
    status: sys::cudnnStatus_t,
    determinism: sys::cudnnDeterminism_t,
    math: Math,
}

/// Converts the result type of one kind of algorithm. cuDNN has a separate type for each kind, with
/// the same fields.
macro_rules! from_perf {
    ($perf:ty, $kind:path) => {
        impl From<$perf> for AlgorithmPerf {
            fn from(perf: $perf) -> Self {
                Self {
                    algorithm: $kind(perf.algo),
                    status: perf.status,
                    determinism: perf.determinism,
                    math: perf.mathType,
                }
            }
        }
    };
}

from_perf!(sys::cudnnConvolutionFwdAlgoPerf_t, Algorithm::Forward);
from_perf!(
    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
    Algorithm::BackwardFilter
);

impl Problem {
    /// The convolution (n, c, h, w) ∗ (k, c, 3, 3) → (n, k, h, w) in `dtype`, f32 or bf16.
    pub(super) fn new(
        handle: Rc<Handle>,
        dtype: DType,
        [n, c, k, h, w]: [usize; 5],
    ) -> Result<Self> {
        let int = |size: usize| c_int::try_from(size).map_err(Error::wrap);
        let [n, c, k, h, w] = [int(n)?, int(c)?, int(k)?, int(h)?, int(w)?];
        let (kind, math) = match dtype {
            DType::F32 => {
                // With the default math type, cuDNN may round f32 to TF32 on GPUs that support it.
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
            _ => bail!("cuDNN convolutions support f32 and bf16, not {dtype:?}"),
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

    /// Returns the math type, determined by the dtype and candle's TF32 setting.
    pub(super) fn math(&self) -> Math {
        self.math
    }

    /// Selects the algorithm of the forward pass.
    pub(super) fn forward(&self) -> Result<Plan> {
        let max_count = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_COUNT as c_int;
        let ranking = query_algorithms(max_count, |max_count, count, entries| {
            // SAFETY: `self` owns the handle and the descriptors; `entries` has room for
            // `max_count` entries.
            unsafe {
                result::get_convolution_forward_algorithm(
                    self.handle.raw(),
                    self.x.raw(),
                    self.weight.raw(),
                    self.convolution.raw(),
                    self.y.raw(),
                    max_count,
                    count,
                    entries,
                )
            }
        })?;
        let fallback = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        self.select(ranking, Algorithm::Forward(fallback))
    }

    /// Selects the algorithm of the filter gradient.
    pub(super) fn backward_filter(&self) -> Result<Plan> {
        let max_count = BackwardFilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT as c_int;
        let ranking = query_algorithms(max_count, |max_count, count, entries| {
            // SAFETY: `self` owns the handle and the descriptors; `entries` has room for
            // `max_count` entries.
            unsafe {
                result::get_convolution_backward_filter_algorithm(
                    self.handle.raw(),
                    self.x.raw(),
                    self.y.raw(),
                    self.convolution.raw(),
                    self.weight.raw(),
                    max_count,
                    count,
                    entries,
                )
            }
        })?;
        let fallback = BackwardFilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        self.select(ranking, Algorithm::BackwardFilter(fallback))
    }

    /// Selects the first deterministic algorithm of `ranking` whose workspace is at most
    /// [`DEVICE_WORKSPACE`], or `fallback` under the same limit. Returns an error if none fits.
    /// cuDNN documents both fallbacks as deterministic, and PyTorch uses them in deterministic
    /// mode.
    fn select<P>(&self, ranking: Vec<P>, fallback: Algorithm) -> Result<Plan>
    where
        AlgorithmPerf: From<P>,
    {
        let fallback = AlgorithmPerf {
            algorithm: fallback,
            status: sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
            determinism: sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
            math: self.math,
        };
        let ranking = ranking.into_iter().map(AlgorithmPerf::from);
        let candidates = ranking.chain([fallback]).map(|perf| {
            // Each algorithm runs with the math type in its entry, except that f32 without TF32
            // always uses FMA.
            let math = match self.math {
                Math::CUDNN_FMA_MATH => self.math,
                _ => perf.math,
            };
            let bytes = perf.status.result().map_err(Error::wrap);
            let bytes = bytes
                .and_then(|()| self.convolution.set_math(math))
                .and_then(|()| self.workspace(perf.algorithm));
            Candidate {
                algorithm: (perf.algorithm, math),
                deterministic: perf.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                workspace: bytes.ok(),
            }
        });
        let Some(((algorithm, math), bytes)) = first_deterministic(candidates, DEVICE_WORKSPACE)
        else {
            bail!(
                "no deterministic cuDNN algorithm fits in {} MiB of workspace",
                DEVICE_WORKSPACE >> 20
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
        // SAFETY: `self` owns the handle and the descriptors.
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
                Algorithm::BackwardFilter(algorithm) => {
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

    /// Launches `plan` on the stream of the handle. For the forward pass, `other` is the filter and
    /// `result` is y. For the filter gradient, `other` is the gradient of y and `result` is the
    /// filter gradient.
    ///
    /// `plan` must have been selected for a problem with the same device, dtype, math type and
    /// sizes.
    ///
    /// # Safety
    ///
    /// The pointers must refer to memory of the handle's GPU that stays allocated until the stream
    /// has finished this launch. `x`, `other` and `result` must match their descriptors. The
    /// workspace must have `plan.bytes` bytes.
    pub(super) unsafe fn launch(
        &self,
        plan: Plan,
        [x, other, result, workspace]: [*mut c_void; 4],
    ) -> Result<()> {
        self.convolution.set_math(plan.math)?;
        let (one, zero) = (1f32, 0f32);
        let (alpha, beta) = ((&raw const one).cast(), (&raw const zero).cast());
        let (handle, convolution) = (self.handle.raw(), self.convolution.raw());
        // SAFETY: the tensors match their descriptors and the workspace is large enough (contract
        // of this method). `self` owns the handle and the descriptors. cuDNN reads `alpha` and
        // `beta` before it returns.
        let launched = unsafe {
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
                Algorithm::BackwardFilter(algorithm) => result::convolution_backward_filter(
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
        launched?;
        Ok(())
    }
}

/// Returns the ranking of the cuDNN heuristics, at most `max_count` algorithms.
///
/// `query` receives `max_count`, a pointer for the number of entries it writes, and a pointer for
/// the entries.
fn query_algorithms<P>(
    max_count: c_int,
    query: impl FnOnce(c_int, *mut c_int, *mut P) -> std::result::Result<(), CudnnError>,
) -> Result<Vec<P>> {
    let mut entries = Vec::with_capacity(usize::try_from(max_count).map_err(Error::wrap)?);
    let mut count = 0;
    query(max_count, &mut count, entries.as_mut_ptr())?;
    let count = usize::try_from(count.min(max_count)).unwrap_or_default();
    // SAFETY: cuDNN has initialized the first `count` entries, and `count` is at most the capacity,
    // `max_count`.
    unsafe { entries.set_len(count) };
    Ok(entries)
}
