//! Types that own a cuDNN handle or descriptor and destroy it on drop.
//!
//! The equivalent types of cudarc keep their raw pointers private, but the algorithm heuristics
//! need the pointers. cudarc also panics if cuDNN reports an error while destroying a handle.

use std::ffi::c_int;
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaStream;

const FORMAT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;

/// Defines a type that owns a cuDNN object and destroys it on drop.
macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $destroy:path $(, $more:ident: $type:ty)?) => {
        $(#[$doc])*
        pub(super) struct $name {
            raw: $raw,
            $($more: $type,)?
        }

        impl $name {
            /// The raw pointer, valid for the lifetime of `self`.
            pub(super) fn raw(&self) -> $raw {
                self.raw
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // Errors are ignored, because `drop` cannot report them.
                //
                // SAFETY: the constructor of `self` created `raw`, and only this `drop` destroys
                // it.
                let _ = unsafe { $destroy(self.raw) };
            }
        }
    };
}

owned!(
    /// The cuDNN library context of one GPU and one thread.
    Handle, sys::cudnnHandle_t, result::destroy_handle, _stream: Arc<CudaStream>
);
owned!(
    /// Describes a contiguous tensor (n, c, h, w).
    TensorDescriptor,
    sys::cudnnTensorDescriptor_t,
    result::destroy_tensor_descriptor
);
owned!(
    /// Describes a contiguous filter (k, c, 3, 3).
    FilterDescriptor,
    sys::cudnnFilterDescriptor_t,
    result::destroy_filter_descriptor
);
owned!(
    /// A convolution with stride 1 and padding 1, accumulated in f32.
    ConvolutionDescriptor,
    sys::cudnnConvolutionDescriptor_t,
    result::destroy_convolution_descriptor
);

impl Handle {
    /// Creates a handle that runs on `stream`. The GPU of `stream` must be the current GPU of the
    /// thread.
    pub(super) fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let raw = result::create_handle()?;
        let raw_stream = stream.cu_stream().cast();
        let handle = Self {
            raw,
            _stream: stream,
        };
        // SAFETY: the handle was created above, and it owns a reference to the stream.
        unsafe { result::set_stream(handle.raw, raw_stream)? };
        Ok(handle)
    }
}

impl TensorDescriptor {
    pub(super) fn new(kind: sys::cudnnDataType_t, dims: [c_int; 4]) -> Result<Self> {
        let raw = result::create_tensor_descriptor()?;
        let descriptor = Self { raw };
        // SAFETY: `raw` is the descriptor created above.
        unsafe { result::set_tensor4d_descriptor(raw, FORMAT, kind, dims)? };
        Ok(descriptor)
    }
}

impl FilterDescriptor {
    pub(super) fn new(kind: sys::cudnnDataType_t, [k, c]: [c_int; 2]) -> Result<Self> {
        let raw = result::create_filter_descriptor()?;
        let descriptor = Self { raw };
        // SAFETY: `raw` is the descriptor created above.
        unsafe { result::set_filter4d_descriptor(raw, kind, FORMAT, [k, c, 3, 3])? };
        Ok(descriptor)
    }
}

impl ConvolutionDescriptor {
    pub(super) fn new(math: sys::cudnnMathType_t) -> Result<Self> {
        let raw = result::create_convolution_descriptor()?;
        let descriptor = Self { raw };
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let accumulator = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: `raw` is the descriptor created above.
        unsafe { result::set_convolution2d_descriptor(raw, 1, 1, 1, 1, 1, 1, mode, accumulator)? };
        descriptor.set_math(math)?;
        Ok(descriptor)
    }

    pub(super) fn set_math(&self, math: sys::cudnnMathType_t) -> Result<()> {
        // SAFETY: the descriptor is valid for the lifetime of `self`. `self` holds a raw pointer,
        // so it is not `Sync`, and no other thread uses the descriptor.
        unsafe { result::set_convolution_math_type(self.raw, math)? };
        Ok(())
    }
}
