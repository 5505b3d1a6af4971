//! Training on a GPU with the built-in sample. Losses are compared with those of the CPU. With `cuda`,
//! losses in bf16 are also compared with those in f32, and a GPU that does not exist is an error.
//!
//! The tests need the feature `cuda` or `metal`. Without a GPU they pass without checking anything.

#![cfg(any(feature = "cuda", feature = "metal"))]

mod harness;

use std::io::Write as _;

use candle_core::Device;
use harness::{TestDir, json_lines};

/// The `--device` argument that selects the GPU.
const GPU: &str = if cfg!(feature = "cuda") {
    "cuda"
} else {
    "metal"
};

/// Whether the first GPU can be opened. If not, prints to standard error that the test is skipped.
/// `cargo test` does not capture this message.
fn gpu_works() -> bool {
    let open = if cfg!(feature = "cuda") {
        Device::new_cuda
    } else {
        Device::new_metal
    };
    // candle panics if there is no Metal device.
    let works = matches!(std::panic::catch_unwind(|| open(0)), Ok(Ok(_)));
    if !works {
        let _ = writeln!(std::io::stderr(), "skipping a GPU test: cannot open a GPU");
    }
    works
}

/// Trains both stages for three epochs each, including the baseline. Returns the name, loss and
/// accuracy of each phase.
fn phases(more: &[&str]) -> Vec<(String, f64, f64)> {
    let dir = TestDir::new();
    let arguments = [
        "train",
        "--json",
        "--transfer-epochs",
        "3",
        "--finetune-epochs",
        "3",
    ];
    let events = json_lines(&dir.succeeds(&[&arguments, more].concat()));
    let phases = events.iter().filter(|event| event["event"] == "phase");
    let phases: Vec<_> = phases
        .map(|event| {
            let number = |key: &str| event[key].as_f64().expect("the field is a number");
            let phase = event["phase"]
                .as_str()
                .expect("the phase is a string")
                .to_owned();
            (phase, number("loss"), number("accuracy"))
        })
        .collect();
    assert_eq!(
        phases.len(),
        10,
        "each stage has one phase in the baseline and two in each of its two other epochs"
    );
    phases
}

#[test]
fn losses_on_the_gpu_match_the_cpu() {
    if !gpu_works() {
        return;
    }
    let on_cpu = phases(&["--device", "cpu"]);
    let on_gpu = phases(&["--device", GPU]);
    for (phase, (cpu, gpu)) in on_cpu.iter().zip(&on_gpu).enumerate() {
        assert_eq!(cpu.0, gpu.0);
        let difference = (cpu.1 - gpu.1).abs();
        assert!(
            difference <= 1e-3,
            "phase {phase}: {cpu:?} on the CPU, {gpu:?} on the GPU"
        );
    }
}

#[test]
fn losses_in_bf16_are_close_to_f32() {
    if !cfg!(feature = "cuda") || !gpu_works() {
        return;
    }
    let in_f32 = phases(&["--device", "cuda"]);
    let in_bf16 = phases(&["--device", "cuda", "--precision", "bf16"]);
    for (phase, (f32, bf16)) in in_f32.iter().zip(&in_bf16).enumerate() {
        // In bf16, activations have only 8 significant bits. Losses near 0.7 differ by about 0.01.
        let difference = (f32.1 - bf16.1).abs();
        assert!(
            difference <= 0.05,
            "phase {phase}: {f32:?} in f32, {bf16:?} in bf16"
        );
    }
    assert!(
        in_f32
            .iter()
            .zip(&in_bf16)
            .any(|(f32, bf16)| f32.1 != bf16.1),
        "all losses in bf16 equal those in f32"
    );
}

#[test]
fn a_missing_gpu_is_an_error() {
    if !cfg!(feature = "cuda") || !gpu_works() {
        return;
    }
    let message = TestDir::new().fails(1, &["train", "--device", "cuda:1000"]);
    assert!(
        message.contains("cuda:1000") && message.contains("nvidia-smi"),
        "{message}"
    );
}
