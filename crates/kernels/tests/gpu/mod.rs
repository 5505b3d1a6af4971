//! The devices that tests run on: the CPU and, if the feature `cuda` or `metal` is enabled, the
//! first GPU.

#![allow(dead_code, reason = "each test file uses some of these functions")]

use std::io::Write as _;
use std::sync::Once;

use candle_core::{DType, Device, Tensor};

/// The CPU, and the GPU if one is available.
pub fn devices() -> impl Iterator<Item = Device> {
    std::iter::once(Device::Cpu).chain(device())
}

/// Tolerance for a result: `on_cpu`, or at least 1e-4 on a GPU, which sums in a different order.
pub fn tolerance(device: &Device, on_cpu: f32) -> f32 {
    if device.is_cpu() {
        on_cpu
    } else {
        on_cpu.max(1e-4)
    }
}

/// The first GPU. If no GPU works, prints once to stderr that GPU tests are skipped. `cargo test`
/// does not capture this message.
///
/// Each thread opens its own device. candle uses CUDA's per-thread default stream, and tests that
/// run in parallel on one device would share one cuBLAS workspace.
pub fn device() -> Option<Device> {
    if !cfg!(any(feature = "cuda", feature = "metal")) {
        return None;
    }
    thread_local! {
        static GPU: Option<Device> = open()
            .inspect_err(|reason| {
                static WARNED: Once = Once::new();
                WARNED.call_once(|| {
                    let _ = writeln!(std::io::stderr(), "skipping tests on the GPU: {reason}");
                });
            })
            .ok();
    }
    GPU.with(Clone::clone)
}

fn open() -> Result<Device, String> {
    let device = if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else {
        // By default, the compiler of candle's shaders assumes that no value is NaN, so tests of
        // NaN would fail.
        if std::env::var("CANDLE_METAL_ENABLE_FAST_MATH").as_deref() != Ok("0") {
            return Err("CANDLE_METAL_ENABLE_FAST_MATH is not 0, so Metal ignores NaN".to_owned());
        }
        // candle panics if there is no GPU.
        std::panic::catch_unwind(|| Device::new_metal(0))
            .map_err(|_| "no Metal device".to_owned())?
    };
    let device = device.map_err(|error| format!("cannot open the GPU: {error}"))?;
    Tensor::ones(1, DType::F32, &device)
        .and_then(|one| (&one + &one)?.to_vec1::<f32>())
        .map_err(|error| format!("a small computation failed: {error}"))?;
    Ok(device)
}
