//! Which device computes: `--device auto|cpu|cuda[:N]|metal` to candle's [`Device`].
//!
//! candle's `cuda_is_available` tells how it was compiled, not what the machine has, and a GPU that opens may
//! still be too old for the kernels. So a device counts only after it has computed something.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use candle_core::{DType, Device, Tensor};
use vgg::Precision;

use crate::args::MachineArgs;
use crate::gpu_memory;
use crate::panic_message::panic_message;

/// A device as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU when this program was built for one and it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// NVIDIA's GPU of this number, or an error.
    Cuda(usize),
    /// Apple's GPU, or an error.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    "unknown device; expected auto, cpu, cuda, cuda:N or metal".to_string()
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// A device to compute on, its name, and why it is not the one hoped for.
pub struct Opened {
    /// candle's handle.
    pub device: Device,
    /// `cpu`, `cuda:N` or `metal`.
    pub name: String,
    /// With `auto`: why a GPU that this program was built for is not used.
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

/// Lets Metal keep NaN: candle's shaders are compiled for numbers without, where a comparison may take it for any of
/// them, and a training that diverges would go on. What is set already counts. Without Metal this does nothing.
///
/// # Safety
///
/// To be called before other threads start, as they might read the environment.
pub unsafe fn keep_nan() {
    // candle's name for it; read when the first shader is compiled.
    const FAST_MATH: &str = "CANDLE_METAL_ENABLE_FAST_MATH";
    if candle_core::utils::metal_is_available() && std::env::var_os(FAST_MATH).is_none() {
        // SAFETY: the caller promises that no other thread runs.
        unsafe { std::env::set_var(FAST_MATH, "0") };
    }
}

/// Opens what the arguments ask for.
///
/// # Errors
///
/// When a GPU is asked for by name and cannot be had, or a precision that the device lacks.
pub fn open(machine: &MachineArgs) -> anyhow::Result<Opened> {
    let opened = chosen(machine.device)?;
    check(machine.precision, &opened)?;
    Ok(opened)
}

fn check(precision: Precision, opened: &Opened) -> anyhow::Result<()> {
    if precision.runs_on(&opened.device) {
        return Ok(());
    }
    let why = opened.fallback.as_ref();
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    bail!(
        "--precision {precision} is for NVIDIA's GPUs, and the device is {}{why}; leave it out to compute in f32",
        opened.name
    )
}

fn chosen(choice: DeviceChoice) -> anyhow::Result<Opened> {
    match choice {
        DeviceChoice::Cpu => Ok(Opened::cpu(None)),
        DeviceChoice::Auto => Ok(automatic(built_for(), working)),
        DeviceChoice::Cuda(_) | DeviceChoice::Metal => {
            let flag = if choice == DeviceChoice::Metal {
                "metal"
            } else {
                "cuda"
            };
            if built_for().is_none_or(|built| built.to_string().split(':').next() != Some(flag)) {
                bail!(
                    "device {choice} cannot be used: this program was built without it; build it with \
                     --features {flag}, or use --device cpu or --device auto"
                );
            }
            let device = working(choice).with_context(|| {
                let list = match choice {
                    DeviceChoice::Cuda(_) => "`nvidia-smi` lists what is there, ",
                    _ => "",
                };
                format!("device {choice} cannot be used; {list}--device cpu always works")
            })?;
            Ok(Opened {
                device,
                name: choice.to_string(),
                fallback: None,
            })
        }
    }
}

/// The kind of GPU that this program can use, as its first one.
fn built_for() -> Option<DeviceChoice> {
    if candle_core::utils::cuda_is_available() {
        Some(DeviceChoice::Cuda(0))
    } else if candle_core::utils::metal_is_available() {
        Some(DeviceChoice::Metal)
    } else {
        None
    }
}

/// The GPU if it can be opened, else the CPU with the reason.
fn automatic(
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
        Err(error) => Opened::cpu(Some(format!("{gpu} does not work: {error:#}"))),
    }
}

/// Opens a GPU and lets it add and multiply: that needs the driver, kernels for this GPU, and cuBLAS.
fn working(choice: DeviceChoice) -> anyhow::Result<Device> {
    let compute = || -> candle_core::Result<Device> {
        let device = match choice {
            DeviceChoice::Cuda(number) => Device::new_cuda(number)?,
            DeviceChoice::Metal => Device::new_metal(0)?,
            DeviceChoice::Auto | DeviceChoice::Cpu => Device::Cpu,
        };
        let ones = Tensor::ones((2, 2), DType::F32, &device)?;
        let four = ((&ones + &ones)?.matmul(&ones)?).to_vec2::<f32>()?;
        if four != [[4.0; 2]; 2] {
            candle_core::bail!("1 + 1 times two is {four:?}");
        }
        Ok(device)
    };
    let attempt = || -> anyhow::Result<Device> {
        let device = compute().map_err(without_backtrace)?;
        gpu_memory::keep_blocks(&device)?;
        Ok(device)
    };
    // Some errors of a driver that is broken or too old reach candle's bindings as panics.
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(found) => found,
        Err(panic) => {
            let said = panic_message(panic.as_ref()).unwrap_or("its driver panicked");
            Err(match choice {
                // candle takes the first of a list that it does not look into.
                DeviceChoice::Metal => anyhow!("there is none, or it does not open ({said})"),
                _ => anyhow!("{said}"),
            })
        }
    }
}

/// candle puts a backtrace into the words of an error where RUST_BACKTRACE is set; why a GPU is not used is no crash.
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
    fn the_reason_is_told_without_a_backtrace() {
        let inner = candle_core::Error::Msg("no such GPU".into());
        let error = candle_core::Error::WithBacktrace {
            inner: Box::new(inner),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        };
        assert_eq!(without_backtrace(error).to_string(), "no such GPU");
    }

    #[test]
    fn names_are_read() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("metal".parse(), Ok(DeviceChoice::Metal));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "metal:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_by_name_that_cannot_be_had_is_an_error() {
        // No machine has so many; and a program without CUDA refuses any.
        for choice in [DeviceChoice::Cuda(1000), DeviceChoice::Metal] {
            if choice == DeviceChoice::Metal && candle_core::utils::metal_is_available() {
                continue;
            }
            let message = chosen(choice).err().expect("no such GPU").to_string();
            assert!(
                message.contains(&choice.to_string()) && message.contains("--device cpu"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_cpu_refuses_bf16_and_says_why_it_is_the_cpu() {
        let cpu = Opened::cpu(Some("cuda:0 does not work".to_string()));
        let message = check(Precision::Bf16, &cpu)
            .expect_err("no bf16")
            .to_string();
        assert!(
            message.contains("--precision bf16") && message.contains("cuda:0 does not work"),
            "{message}"
        );
        check(Precision::F32, &cpu).expect("f32 runs everywhere");
    }

    #[test]
    fn auto_says_why_it_falls_back() {
        let broken = |_| Err(anyhow!("no driver"));
        let opened = automatic(Some(DeviceChoice::Cuda(0)), broken);
        assert_eq!(opened.name, "cpu");
        let why = opened.fallback.expect("a reason");
        assert!(why.contains("cuda:0") && why.contains("no driver"), "{why}");
        assert!(automatic(None, broken).fallback.is_none());
        // What stands for a GPU here is the CPU.
        let found = automatic(Some(DeviceChoice::Cuda(0)), |_| working(DeviceChoice::Cpu));
        assert_eq!((found.name.as_str(), found.fallback), ("cuda:0", None));
    }
}
