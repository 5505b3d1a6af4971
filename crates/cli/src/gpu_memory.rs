//! Settings for the memory pool from which candle allocates on an NVIDIA GPU.
//!
//! By default, the driver returns the pool's free memory to the system at every synchronization. A
//! training step synchronizes once and would allocate the memory again in the next step. Keeping it
//! saves that time and does not change peak memory use. On other devices, and on GPUs without
//! memory pools, these functions do nothing.

use candle_core::Device;

/// Makes the memory pool of `device` keep freed memory. The whole process shares the pool.
///
/// # Errors
///
/// Returns an error if a driver call fails.
pub fn keep_blocks(device: &Device) -> anyhow::Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::keep_blocks(device),
        _ => Ok(()),
    }
}

/// Peak memory allocated from the pool since [`reset_peak`], in bytes. `None` if the device has no
/// memory pool.
///
/// # Errors
///
/// Returns an error if a driver call fails.
pub fn peak_bytes(device: &Device) -> anyhow::Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::peak_bytes(device),
        _ => Ok(None),
    }
}

/// Resets the peak returned by [`peak_bytes`].
///
/// # Errors
///
/// Returns an error if a driver call fails.
pub fn reset_peak(device: &Device) -> anyhow::Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::reset_peak(device),
        _ => Ok(()),
    }
}

#[cfg(feature = "cuda")]
mod pool {
    use anyhow::Result;
    use candle_core::CudaDevice;
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    use sys::CUmemPool_attribute as Attribute;

    /// The default memory pool of the GPU, or `None` if it does not support pools.
    fn default_pool(device: &CudaDevice) -> Result<Option<sys::CUmemoryPool>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        if !context.has_async_alloc() {
            return Ok(None);
        }
        // SAFETY: `cu_device` is a valid device handle, because the driver returned it to the
        // context, which is alive.
        let pool = unsafe { result::device::get_default_mem_pool(context.cu_device())? };
        Ok(Some(pool))
    }

    fn set(device: &CudaDevice, attribute: Attribute, mut value: u64) -> Result<()> {
        if let Some(pool) = default_pool(device)? {
            // SAFETY: the default pool is valid as long as the device, and `value` has the 64 bits
            // that the driver reads for the attributes passed to this function.
            unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast())? };
        }
        Ok(())
    }

    pub fn keep_blocks(device: &CudaDevice) -> Result<()> {
        let threshold = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        set(device, threshold, u64::MAX)
    }

    pub fn reset_peak(device: &CudaDevice) -> Result<()> {
        // The driver accepts only 0, which resets the peak.
        set(device, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }

    pub fn peak_bytes(device: &CudaDevice) -> Result<Option<u64>> {
        let Some(pool) = default_pool(device)? else {
            return Ok(None);
        };
        let mut bytes = 0u64;
        let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the default pool is valid as long as the device, and `bytes` has the 64 bits that
        // the driver writes for this attribute.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast())? };
        Ok(Some(bytes))
    }
}
