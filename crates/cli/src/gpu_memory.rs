//! The pool that candle's memory on an NVIDIA GPU comes from.
//!
//! By default the driver gives what is free in the pool back to the system whenever the program waits for the GPU,
//! which a training step does once, and asks for it anew in the next step. Kept, it costs nothing; the peak is the
//! same. On other devices, and on GPUs without such pools, these functions do nothing.

use candle_core::Device;

/// Lets the pool keep what is free. It is the pool of the whole process, for this GPU.
///
/// # Errors
///
/// The driver's.
pub fn keep_blocks(device: &Device) -> anyhow::Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::keep_blocks(device),
        _ => Ok(()),
    }
}

/// The most bytes in use at any time since [`reset_peak`]; nothing where it is not known.
///
/// # Errors
///
/// The driver's.
pub fn peak_bytes(device: &Device) -> anyhow::Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => pool::peak_bytes(device),
        _ => Ok(None),
    }
}

/// Lets the peak be counted from here on.
///
/// # Errors
///
/// The driver's.
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

    /// The pool, if the GPU allocates from one.
    fn of(device: &CudaDevice) -> Result<Option<sys::CUmemoryPool>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        if !context.has_async_alloc() {
            return Ok(None);
        }
        // SAFETY: the context keeps its device, which it got from the driver.
        let pool = unsafe { result::device::get_default_mem_pool(context.cu_device())? };
        Ok(Some(pool))
    }

    fn set(device: &CudaDevice, attribute: Attribute, mut value: u64) -> Result<()> {
        if let Some(pool) = of(device)? {
            // SAFETY: the default pool lives as long as the device, and these attributes are 64 bits.
            unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast())? };
        }
        Ok(())
    }

    pub fn keep_blocks(device: &CudaDevice) -> Result<()> {
        let threshold = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        set(device, threshold, u64::MAX)
    }

    pub fn reset_peak(device: &CudaDevice) -> Result<()> {
        // The driver takes no other value than 0 for it.
        set(device, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }

    pub fn peak_bytes(device: &CudaDevice) -> Result<Option<u64>> {
        let Some(pool) = of(device)? else {
            return Ok(None);
        };
        let mut bytes = 0u64;
        let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: as in `set`.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast())? };
        Ok(Some(bytes))
    }
}
