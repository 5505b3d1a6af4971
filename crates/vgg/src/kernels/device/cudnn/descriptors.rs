//! cuDNN's handle and descriptors, each destroyed with its owner.
//!
//! cudarc has such types too, but keeps their pointers to itself, and without them cuDNN cannot be asked which
//! algorithms it has. Its handle also panics where cuDNN reports an error while one is destroyed.

use std::ffi::c_int;
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaStream;

const FORMAT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;

/// A type whose `raw` was made by cuDNN and is destroyed once.
macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $destroy:path $(, $more:ident: $type:ty)?) => {
        $(#[$doc])*
        pub(super) struct $name {
            raw: $raw,
            $($more: $type,)?
        }

        impl $name {
            /// Valid as long as `self`.
            pub(super) fn raw(&self) -> $raw {
                self.raw
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // Nothing can be done about an error here.
                // SAFETY: `raw` was made when `self` was, and nobody else destroys it.
                let _ = unsafe { $destroy(self.raw) };
            }
        }
    };
}

owned!(
    /// A connection to cuDNN, for one GPU and one thread.
    Handle, sys::cudnnHandle_t, result::destroy_handle, _stream: Arc<CudaStream>
);
owned!(
    /// A tensor (n, c, h, w), contiguous.
    TensorDescriptor,
    sys::cudnnTensorDescriptor_t,
    result::destroy_tensor_descriptor
);
owned!(
    /// A kernel (k, c, 3, 3), contiguous.
    FilterDescriptor,
    sys::cudnnFilterDescriptor_t,
    result::destroy_filter_descriptor
);
owned!(
    /// A convolution of stride 1 and padding 1, its sums in f32.
    ConvolutionDescriptor,
    sys::cudnnConvolutionDescriptor_t,
    result::destroy_convolution_descriptor
);

impl Handle {
    /// Its work goes to `stream`, whose GPU is the current one.
    pub(super) fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let raw = result::create_handle()?;
        let queue = stream.cu_stream().cast();
        let handle = Self {
            raw,
            _stream: stream,
        };
        // SAFETY: the handle was just made; the stream lives as long as it does.
        unsafe { result::set_stream(handle.raw, queue)? };
        Ok(handle)
    }
}

impl TensorDescriptor {
    pub(super) fn new(kind: sys::cudnnDataType_t, dims: [c_int; 4]) -> Result<Self> {
        let raw = result::create_tensor_descriptor()?;
        let descriptor = Self { raw };
        // SAFETY: the descriptor was just made.
        unsafe { result::set_tensor4d_descriptor(raw, FORMAT, kind, dims)? };
        Ok(descriptor)
    }
}

impl FilterDescriptor {
    pub(super) fn new(kind: sys::cudnnDataType_t, [k, c]: [c_int; 2]) -> Result<Self> {
        let raw = result::create_filter_descriptor()?;
        let descriptor = Self { raw };
        // SAFETY: the descriptor was just made.
        unsafe { result::set_filter4d_descriptor(raw, kind, FORMAT, [k, c, 3, 3])? };
        Ok(descriptor)
    }
}

impl ConvolutionDescriptor {
    pub(super) fn new(math: sys::cudnnMathType_t) -> Result<Self> {
        let raw = result::create_convolution_descriptor()?;
        let descriptor = Self { raw };
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptor was just made.
        unsafe { result::set_convolution2d_descriptor(raw, 1, 1, 1, 1, 1, 1, mode, sums)? };
        descriptor.set_math(math)?;
        Ok(descriptor)
    }

    pub(super) fn set_math(&self, math: sys::cudnnMathType_t) -> Result<()> {
        // SAFETY: the descriptor lives as long as `self`; no other thread has it.
        unsafe { result::set_convolution_math_type(self.raw, math)? };
        Ok(())
    }
}
