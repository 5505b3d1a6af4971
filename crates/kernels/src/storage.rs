//! Access to the elements of contiguous f32 tensors on the CPU.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// Returns the elements that `layout` selects, or an error if they are not contiguous f32.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("expected a contiguous tensor"),
    }
}

/// Like [`contiguous`], and also returns an error if the storage is not on the CPU.
pub(crate) fn cpu_values<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// Calls `f` with the elements of `tensor`, or returns an error if it is not a contiguous f32
/// tensor on the CPU.
pub(crate) fn with_values<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    cpu_values(&storage, layout).map(f)
}
