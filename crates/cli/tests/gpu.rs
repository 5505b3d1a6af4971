//! The program on a GPU: the main job on the built-in sample, against the same job on the CPU.
//!
//! Only with the feature `cuda` or `metal`, and where there is a GPU.

#![cfg(any(feature = "cuda", feature = "metal"))]

#[path = "../../vgg/tests/gpu/mod.rs"]
mod gpu;
mod harness;

use harness::{TestDir, json_lines};

/// What `--device` calls it.
const GPU: &str = if cfg!(feature = "cuda") {
    "cuda"
} else {
    "metal"
};

/// Each pass's phase, loss and accuracy, of two epochs of each stage.
fn passes(more: &[&str]) -> Vec<(String, f64, f64)> {
    let dir = TestDir::new();
    let job = [
        "train",
        "--json",
        "--transfer-epochs",
        "3",
        "--finetune-epochs",
        "3",
    ];
    let told = json_lines(&dir.succeeds(&[&job, more].concat()));
    let phases = told.iter().filter(|event| event["event"] == "phase");
    let passes: Vec<_> = phases
        .map(|event| {
            let number = |key: &str| event[key].as_f64().expect("a number");
            let phase = event["phase"].as_str().expect("a phase").to_owned();
            (phase, number("loss"), number("accuracy"))
        })
        .collect();
    assert_eq!(
        passes.len(),
        10,
        "an epoch that validates and two more, twice"
    );
    passes
}

#[test]
fn the_sample_trains_on_the_gpu_as_on_the_cpu() {
    if gpu::device().is_none() {
        return;
    }
    let on_cpu = passes(&["--device", "cpu"]);
    let on_gpu = passes(&["--device", GPU]);
    for (pass, (cpu, gpu)) in on_cpu.iter().zip(&on_gpu).enumerate() {
        assert_eq!(cpu.0, gpu.0);
        let off = (cpu.1 - gpu.1).abs();
        assert!(
            off <= 1e-3,
            "pass {pass}: {cpu:?} on the CPU, {gpu:?} on the GPU"
        );
    }
}

#[test]
fn the_sample_trains_in_bf16() {
    if !cfg!(feature = "cuda") || gpu::device().is_none() {
        return;
    }
    let in_f32 = passes(&["--device", "cuda"]);
    let in_bf16 = passes(&["--device", "cuda", "--precision", "bf16"]);
    for (pass, (f32, bf16)) in in_f32.iter().zip(&in_bf16).enumerate() {
        // Eight bits in every activation: a hundredth of a loss around 0.7, with room.
        let off = (f32.1 - bf16.1).abs();
        assert!(off <= 0.05, "pass {pass}: {f32:?} in f32, {bf16:?} in bf16");
    }
    assert!(
        in_f32
            .iter()
            .zip(&in_bf16)
            .any(|(f32, bf16)| f32.1 != bf16.1),
        "--precision changed nothing"
    );
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    if !cfg!(feature = "cuda") || gpu::device().is_none() {
        return;
    }
    let said = TestDir::new().fails(1, &["train", "--device", "cuda:1000"]);
    assert!(
        said.contains("cuda:1000") && said.contains("nvidia-smi"),
        "{said}"
    );
}
