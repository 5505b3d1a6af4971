//! The GPU that tests run on, with the feature `cuda` or `metal` and where there is one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::Write as _;
use std::sync::Once;

use candle_core::{DType, Device, Tensor};

/// The CPU, and the GPU where there is one: what a test runs on.
pub fn devices() -> impl Iterator<Item = Device> {
    std::iter::once(Device::Cpu).chain(device())
}

/// What a result may be off by: `on_cpu`, or 1e-4 where a GPU adds up in an order of its own.
pub fn tolerance(device: &Device, on_cpu: f32) -> f32 {
    if device.is_cpu() {
        on_cpu
    } else {
        on_cpu.max(1e-4)
    }
}

/// The first GPU. Without one, or where it does not work, a line says what is skipped, past the capture of
/// `cargo test`.
///
/// Each thread opens it for itself: candle's queue is the one that CUDA has for each thread, and tests that run side by
/// side would share one memory for the products of both.
pub fn device() -> Option<Device> {
    if !cfg!(any(feature = "cuda", feature = "metal")) {
        return None;
    }
    thread_local! {
        static FOUND: Option<Device> = open()
            .inspect_err(|why| {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    let _ = writeln!(std::io::stderr(), "skipped on the GPU: {why}");
                });
            })
            .ok();
    }
    FOUND.with(Clone::clone)
}

fn open() -> Result<Device, String> {
    let device = if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else {
        // To the compiler of candle's shaders, unless told otherwise, no number is a NaN.
        if std::env::var("CANDLE_METAL_ENABLE_FAST_MATH").as_deref() != Ok("0") {
            return Err(
                "with Metal set CANDLE_METAL_ENABLE_FAST_MATH=0, or NaN is lost".to_owned(),
            );
        }
        // Without a GPU this panics.
        std::panic::catch_unwind(|| Device::new_metal(0)).map_err(|_| "there is none".to_owned())?
    };
    let device = device.map_err(|error| format!("there is none ({error})"))?;
    Tensor::ones(1, DType::F32, &device)
        .and_then(|one| (&one + &one)?.to_vec1::<f32>())
        .map_err(|error| format!("it does not work ({error})"))?;
    Ok(device)
}
