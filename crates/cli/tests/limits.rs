//! Limits on threads and memory, and unknown values of environment variables, end in an error message
//! and exit code 1.

#![cfg(target_os = "linux")]

mod harness;

use std::os::unix::process::CommandExt;
use std::process::Command;

use candle_core::Device;
use harness::{TestDir, stdout_and_stderr, train_args};

const GIB: u64 = 1 << 30;

/// Limits the address space of `command` to `bytes`.
fn limit(mut command: Command, bytes: u64) -> Command {
    // SAFETY: only async-signal-safe calls are allowed between fork and exec. `setrlimit` only makes
    // a system call. The closure neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: bytes,
            };
            match libc::setrlimit(libc::RLIMIT_AS, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command
}

/// Runs `command`, expects exit code 1 and an error that contains `parts`, and no panic.
#[track_caller]
fn fails(mut command: Command, parts: &[&str]) {
    let (stdout, stderr) = {
        let output = command.output().unwrap();
        let (stdout, stderr) = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
        (stdout, stderr)
    };
    assert!(!stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part}: {stdout}{stderr}");
    }
}

/// The address space that each thread takes for its stack with `RUST_MIN_STACK`.
const STACK: &str = "268435456";

#[test]
fn threads_that_cannot_be_started_are_an_error() {
    let dir = TestDir::with_stripes();
    let train = |more: &[&str]| dir.command(&train_args(["2", "2"], "4", &[more]));
    let many = [
        "train",
        "--data",
        "data",
        "--weights",
        "tiny.safetensors",
        "--threads",
        "1024",
    ];
    // Large stacks leave memory for a thread's own allocations, for which std would panic, when the
    // next thread does not fit.
    let large_stacks = |mut command: Command| {
        command.env("RUST_MIN_STACK", STACK);
        command
    };
    fails(
        limit(large_stacks(dir.command(&many)), 5 * GIB / 2),
        &["error: cannot start 1024 compute threads\n", "--threads"],
    );
    dir.succeeds(&train_args(["1", "1"], "4", &[&["--out", "run"]]));
    let predict = [
        "predict",
        "run",
        "data",
        "--threads",
        "1",
        "--workers",
        "1024",
    ];
    fails(
        limit(large_stacks(dir.command(&predict)), 5 * GIB / 2),
        &["cannot start the threads that decode images", "--workers"],
    );
    // One thread answers signals, and two compute.
    let loaders = large_stacks(train(&["--workers", "8"]));
    fails(
        limit(loaders, 3 * GIB / 2),
        &["cannot start a worker thread"],
    );
    let check = large_stacks(dir.command(&["check", "data", "--workers", "8"]));
    fails(limit(check, 3 * GIB / 2), &["error: cannot start "]);
    let mut writer = train(&["--out", "run", "--checkpoint-every", "0.00001"]);
    writer.env("WAGGLE_FAULT", "no-thread:1");
    fails(writer, &["cannot start the thread that writes checkpoints"]);
    dir.succeeds(&["train", "--resume", "run-2"]);
    let mut signals = train(&[]);
    signals.env("RUST_MIN_STACK", "4294967296");
    fails(
        limit(signals, GIB),
        &["cannot start the thread that answers signals"],
    );
}

#[test]
fn a_model_of_100_000_classes_is_refused_before_memory_is_taken() {
    let dir = TestDir::with_stripes();
    let config = vgg::VggConfig {
        classes: 100_000,
        ..vgg::VggConfig::slim_vgg16([1; 5], 1, 1, 32, 2)
    };
    let tensors = vgg::init::from_scratch(&config, 1, &Device::Cpu).unwrap();
    let classes = (0..100_000).map(|class| class.to_string()).collect();
    let metadata = vgg::Metadata {
        config,
        classes,
        mean: [0.5; 3],
        std: [0.5; 3],
        temperature: 1.0,
    };
    vgg::save(dir.path("model.safetensors"), &tensors, &metadata).unwrap();
    let command = dir.command(&["evaluate", "model.safetensors", "--data", "data"]);
    let needed = "error: the confusion matrix needs 74.51 GiB of memory";
    fails(limit(command, 3 * GIB), &[needed, "use fewer classes"]);
    dir.succeeds(&["predict", "model.safetensors", "data/val/vertical/00.png"]);
}

#[test]
fn batches_and_caches_larger_than_the_memory_are_refused_before_they_are_allocated() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train_args(["1", "1"], "4", &[&["--out", "run"]]));
    let size = ["--input-size", "4096", "--out", "large"];
    let batch = "error: a batch of 24 images of 4096 px needs ";
    let command = dir.command(&train_args(["1", "1"], "100000", &[&size]));
    fails(limit(command, 3 * GIB), &[batch, "smaller `--batch-size`"]);
    let show = [
        "show",
        "--data",
        "data",
        "--input-size",
        "4096",
        "--batch-size",
        "100000",
    ];
    fails(
        limit(dir.command(&show), 3 * GIB),
        &[batch, "smaller `--batch-size`"],
    );
    let cache = train_args(["1", "1"], "4", &[&["--cache-images", "100TB"]]);
    fails(
        dir.command(&cache),
        &[
            "error: the image cache needs 90.95 TiB of memory",
            "smaller `--cache-images`",
        ],
    );
    assert!(!dir.path("large").exists());
}

#[test]
fn an_image_larger_than_the_memory_is_reported_by_name() {
    let dir = TestDir::with_stripes();
    let image = image::GrayImage::new(10_000, 10_000);
    let image = image::DynamicImage::ImageLuma8(image).into_rgb8();
    image.save(dir.path("data/val/vertical/large.png")).unwrap();
    let command = dir.command(&["check", "data", "--workers", "1"]);
    // The pixels take 300 MB.
    let output = limit(command, 350_000_000).output().unwrap();
    let (stdout, stderr) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    let line = "val/vertical/large.png: out of memory";
    assert!(stdout.contains(line), "{stdout}{stderr}");
}

#[test]
fn an_unknown_instruction_set_in_the_environment_is_an_error() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train_args(["1", "1"], "4", &[&["--out", "run"]]));
    for arguments in [
        &["train", "--data", "data", "--weights", "tiny.safetensors"][..],
        &["evaluate", "run"],
        &["predict", "run", "data/val"],
    ] {
        for name in ["avx9", "AVX2", "portable "] {
            let mut command = dir.command(arguments);
            command.env("WAGGLE_KERNELS", name);
            let error =
                format!("error: WAGGLE_KERNELS is `{name}`, but this CPU supports only portable");
            fails(command, &[&error, "help: unset WAGGLE_KERNELS"]);
        }
    }
    let output = dir
        .command(&["evaluate", "run"])
        .env("WAGGLE_KERNELS", "")
        .output();
    assert!(output.unwrap().status.success());
}

#[test]
fn variables_of_rayon_do_not_matter() {
    let dir = TestDir::with_stripes();
    for value in ["4000000000", "-1", "many", ""] {
        for arguments in [
            &["check", "data"][..],
            &["show", "--data", "data", "--overwrite"],
        ] {
            let mut command = dir.command(arguments);
            let output = command.env("RAYON_NUM_THREADS", value).output().unwrap();
            let (_, stderr) = stdout_and_stderr(&output);
            assert_eq!(stderr, "", "{value} {arguments:?}");
        }
    }
}
