//! Device selection: opens the candle [`Device`] for `--device auto|cpu|cuda[:N]|metal`.
//!
//! candle's `cuda_is_available` reports how candle was compiled, not whether there is a GPU. A GPU
//! that can be opened may still be too old for the kernels. So a GPU is used only after a test
//! computation.

use std::error::Error;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{anyhow, bail};
use candle_core::{DType, Device, Tensor};
use vgg::Precision;

use crate::args::types::{DeviceChoice, MAX_THREADS};
use crate::error::Diagnostic;
use crate::gpu_memory;
use crate::panic_message::panic_message;

/// A device that has been opened. A GPU has also been tested.
pub struct Opened {
    /// The device handle to pass to candle.
    pub device: Device,
    /// `cpu`, `cuda:N` or `metal`.
    pub name: String,
    /// With `auto`: why the GPU is not used, if the program was built for one.
    pub fallback: Option<String>,
}

impl Opened {
    fn cpu(fallback: Option<String>) -> Self {
        Self {
            device: Device::Cpu,
            name: DeviceChoice::Cpu.to_string(),
            fallback,
        }
    }
}

/// Turns off fast math in candle's Metal shaders, unless the environment already sets it. No-op
/// without Metal.
///
/// Fast math assumes that there is no NaN. A comparison with NaN may then have any result, and a
/// training that has diverged would continue unnoticed.
///
/// # Safety
///
/// No other thread may be running: it might read the environment while this function writes it.
pub unsafe fn keep_nan() {
    // candle reads this variable when it compiles the first shader.
    const FAST_MATH: &str = "CANDLE_METAL_ENABLE_FAST_MATH";
    if candle_core::utils::metal_is_available() && std::env::var_os(FAST_MATH).is_none() {
        // SAFETY: no other thread is running, as the contract of this function requires, so none
        // accesses the environment.
        unsafe { std::env::set_var(FAST_MATH, "0") };
    }
}

/// Starts rayon's global pool, which all crates share, and returns its number of threads.
///
/// The default is `available_parallelism`, which respects CPU affinity and container limits. If the
/// pool exists already, it is kept.
///
/// # Errors
///
/// Returns an error if there are more than [`MAX_THREADS`] threads or they cannot be started.
pub fn start_threads(threads: Option<NonZeroUsize>) -> anyhow::Result<usize> {
    let threads = match threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_THREADS),
    };
    check_threads(threads, "--threads")?;
    let started = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    match started {
        // An error without a source means that the pool exists, as in tests that run two commands in
        // one process.
        Err(error) if error.source().is_some() => bail!(
            Diagnostic::new(format!("cannot start {threads} compute threads"))
                .help("pass a smaller number to `--threads`, or raise the limits on threads and memory")
                .caused_by(error)
        ),
        _ => Ok(rayon::current_num_threads()),
    }
}

/// Returns an error if `threads`, the value of `flag`, exceeds [`MAX_THREADS`]. The parser checks
/// arguments; this check is for values that a resumed run has stored.
pub fn check_threads(threads: usize, flag: &str) -> anyhow::Result<()> {
    if threads > MAX_THREADS {
        bail!("the run uses {threads} threads (`{flag}`), more than the maximum of {MAX_THREADS}");
    }
    Ok(())
}

/// Opens the device selected by `choice`.
///
/// # Errors
///
/// Returns an error if the chosen GPU cannot be used, or if the device does not support
/// `precision`.
pub fn open(choice: DeviceChoice, precision: Precision) -> anyhow::Result<Opened> {
    let opened = open_choice(choice)?;
    check_precision(precision, &opened)?;
    Ok(opened)
}

fn check_precision(precision: Precision, opened: &Opened) -> anyhow::Result<()> {
    if precision.runs_on(&opened.device) {
        return Ok(());
    }
    let reason = opened.fallback.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    bail!(
        Diagnostic::new(format!(
            "precision {precision} requires an NVIDIA GPU, but the device is {}{reason}",
            opened.name
        ))
        .help("leave out `--precision` to compute in f32")
    )
}

fn open_choice(choice: DeviceChoice) -> anyhow::Result<Opened> {
    match choice {
        DeviceChoice::Cpu => Ok(Opened::cpu(None)),
        DeviceChoice::Auto => Ok(open_auto(built_for(), open_and_test)),
        DeviceChoice::Cuda(_) | DeviceChoice::Metal => {
            let feature = if choice == DeviceChoice::Metal {
                "metal"
            } else {
                "cuda"
            };
            let is_built_for = |built: DeviceChoice| built.to_string().starts_with(feature);
            if !built_for().is_some_and(is_built_for) {
                bail!(
                    Diagnostic::new(format!(
                        "cannot use device {choice}: this program was built without {feature}"
                    ))
                    .help(format!(
                        "build it with `--features {feature}`, or pass `--device cpu`"
                    ))
                );
            }
            let device = open_and_test(choice).map_err(|error| {
                let list = match choice {
                    DeviceChoice::Cuda(_) => "list the GPUs with `nvidia-smi`, or ",
                    _ => "",
                };
                Diagnostic::new(format!("cannot use device {choice}"))
                    .help(format!("{list}pass `--device cpu`"))
                    .caused_by(error)
            })?;
            Ok(Opened {
                device,
                name: choice.to_string(),
                fallback: None,
            })
        }
    }
}

/// The first GPU of the kind that the program was built for; `None` if it was built without GPUs.
fn built_for() -> Option<DeviceChoice> {
    if candle_core::utils::cuda_is_available() {
        Some(DeviceChoice::Cuda(0))
    } else if candle_core::utils::metal_is_available() {
        Some(DeviceChoice::Metal)
    } else {
        None
    }
}

/// Opens `gpu`. Falls back to the CPU if `gpu` is `None`, or with a reason if `open` fails.
fn open_auto(
    gpu: Option<DeviceChoice>,
    open: impl FnOnce(DeviceChoice) -> anyhow::Result<Device>,
) -> Opened {
    let Some(gpu) = gpu else {
        return Opened::cpu(None);
    };
    match open(gpu) {
        Ok(device) => Opened {
            device,
            name: gpu.to_string(),
            fallback: None,
        },
        Err(error) => Opened::cpu(Some(format!("cannot use {gpu}: {error:#}"))),
    }
}

/// Opens a GPU and tests it with a sum and a matrix product. On an NVIDIA GPU, these need the
/// driver, kernels for this GPU, and cuBLAS. Also makes the GPU's memory pool keep freed memory.
fn open_and_test(choice: DeviceChoice) -> anyhow::Result<Device> {
    let compute = || -> candle_core::Result<Device> {
        let device = match choice {
            DeviceChoice::Cuda(number) => Device::new_cuda(number)?,
            DeviceChoice::Metal => Device::new_metal(0)?,
            DeviceChoice::Auto | DeviceChoice::Cpu => Device::Cpu,
        };
        let ones = Tensor::ones((2, 2), DType::F32, &device)?;
        let four = ((&ones + &ones)?.matmul(&ones)?).to_vec2::<f32>()?;
        if four != [[4.0; 2]; 2] {
            candle_core::bail!("a test computation returned {four:?} instead of 4");
        }
        Ok(device)
    };
    let attempt = || -> anyhow::Result<Device> {
        let device = compute().map_err(without_backtrace)?;
        gpu_memory::keep_blocks(&device)?;
        Ok(device)
    };
    // candle's bindings panic on some errors of a broken or outdated driver.
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(device) => device,
        Err(panic) => {
            let message = panic_message(panic.as_ref()).unwrap_or("the driver panicked");
            Err(match choice {
                // candle indexes the list of Metal devices without a check.
                DeviceChoice::Metal => {
                    anyhow!("cannot find or open a Metal device ({message})")
                }
                _ => anyhow!("{message}"),
            })
        }
    }
}

/// Removes the backtrace that candle adds to error messages if `RUST_BACKTRACE` is set.
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backtraces_are_removed_from_candle_errors() {
        let inner = candle_core::Error::Msg("no such GPU".into());
        let error = candle_core::Error::WithBacktrace {
            inner: Box::new(inner),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        assert_eq!(without_backtrace(error).to_string(), "no such GPU");
    }

    #[test]
    fn a_given_gpu_that_cannot_be_used_is_an_error() {
        // No machine has more than a thousand GPUs, and a program built without CUDA rejects all.
        for choice in [DeviceChoice::Cuda(1000), DeviceChoice::Metal] {
            if choice == DeviceChoice::Metal && candle_core::utils::metal_is_available() {
                continue;
            }
            let error = open_choice(choice).err().expect("no such GPU");
            let message = error.to_string();
            assert!(message.contains(&choice.to_string()), "{message}");
        }
    }

    #[test]
    fn bf16_on_the_cpu_is_an_error_with_the_reason_of_the_fallback() {
        let cpu = Opened::cpu(Some("cannot use cuda:0".to_string()));
        let error = check_precision(Precision::Bf16, &cpu).expect_err("bf16 needs a GPU");
        let message = error.to_string();
        assert!(
            message.contains("precision bf16") && message.contains("cannot use cuda:0"),
            "{message}"
        );
        check_precision(Precision::F32, &cpu).expect("all devices support f32");
    }

    #[test]
    fn auto_falls_back_to_the_cpu_with_a_reason() {
        let broken = |_| Err(anyhow!("no driver"));
        let opened = open_auto(Some(DeviceChoice::Cuda(0)), broken);
        assert_eq!(opened.name, "cpu");
        let reason = opened.fallback.expect("a reason");
        assert_eq!(reason, "cannot use cuda:0: no driver");
        assert!(open_auto(None, broken).fallback.is_none());
        // The CPU stands in for a GPU that works.
        let opened = open_auto(Some(DeviceChoice::Cuda(0)), |_| {
            open_and_test(DeviceChoice::Cpu)
        });
        assert_eq!((opened.name.as_str(), opened.fallback), ("cuda:0", None));
    }
}
