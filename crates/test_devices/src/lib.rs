//! The devices that tests run on: the CPU and, if candle is built with `cuda` or `metal`, the first
//! GPU.
//!
//! The crate is not published. It is a development dependency without a version, which
//! `cargo publish` removes.

#![forbid(unsafe_code)]

use std::io::Write as _;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device, Tensor};

/// The CPU, and the GPU if it is enabled and works. If an enabled GPU does not work, prints to
/// stderr that the GPU tests are skipped. `cargo test` does not capture this message.
///
/// Each call opens the GPU again, because tests that run in parallel with the same `Device` would
/// share a cuBLAS workspace.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if cuda_is_available() || metal_is_available() {
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
    let device = if cuda_is_available() {
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
