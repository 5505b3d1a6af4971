//! The GPU that tests run on, with the feature `cuda` or `metal` and where there is one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::Write as _;
use std::sync::OnceLock;

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

/// The first GPU. Without one, or where its results could not be compared, a line says what is skipped, past the
/// capture of `cargo test`.
pub fn device() -> Option<Device> {
    if !cfg!(any(feature = "cuda", feature = "metal")) {
        return None;
    }
    static FOUND: OnceLock<Option<Device>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            open()
                .map_err(|why| {
                    let _ = writeln!(std::io::stderr(), "skipped on the GPU: {why}");
                })
                .ok()
        })
        .clone()
}

fn open() -> Result<Device, String> {
    // cuDNN rounds f32 to TF32, ten bits, unless this variable says no.
    if cfg!(feature = "cudnn") && std::env::var("NVIDIA_TF32_OVERRIDE").as_deref() != Ok("0") {
        return Err("with cuDNN set NVIDIA_TF32_OVERRIDE=0, or f32 is not f32".to_owned());
    }
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
