//! The devices of the tests: the CPU and, if the feature `cuda` or `metal` is enabled, the first
//! GPU.

use std::io::Write as _;

use candle_core::{DType, Device, Tensor};

/// The CPU, and the GPU if it is enabled and works. If an enabled GPU does not work, prints to
/// stderr that the GPU tests are skipped. `cargo test` does not capture this message.
///
/// Each call opens the GPU again, because tests that run in parallel with the same `Device` would
/// share a cuBLAS workspace.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if cfg!(any(feature = "cuda", feature = "metal")) {
        match open() {
            Ok(gpu) => devices.push(gpu),
            Err(reason) => {
                let _ = writeln!(std::io::stderr(), "skipping tests on the GPU: {reason}");
            }
        }
    }
    devices
}

fn open() -> Result<Device, String> {
    let device = if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else {
        // By default, candle compiles its shaders with fast math, which assumes that no value is
        // NaN.
        if std::env::var("CANDLE_METAL_ENABLE_FAST_MATH").as_deref() != Ok("0") {
            return Err("CANDLE_METAL_ENABLE_FAST_MATH is not 0, so Metal ignores NaN".to_owned());
        }
        // candle panics if there is no Metal device.
        std::panic::catch_unwind(|| Device::new_metal(0))
            .map_err(|_| "no Metal device".to_owned())?
    };
    let works = |device: &Device| Tensor::ones(1, DType::F32, device)?.to_vec1::<f32>();
    let device = device.map_err(|error| error.to_string())?;
    works(&device).map_err(|error| error.to_string())?;
    Ok(device)
}
