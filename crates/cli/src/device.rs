//! Which device computes: `--device auto|cpu|cuda[:N]` to candle's [`Device`].

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail};
use candle_core::Device;

/// A device as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU when this program was built for one and it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "unknown device; expected auto, cpu, cuda or cuda:N".to_string()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A device to compute on, its name, and why it is not the one hoped for.
pub struct Opened {
    /// candle's handle.
    pub device: Device,
    /// `cpu` or `cuda:N`.
    pub name: String,
    /// With `auto`: why a GPU that this program was built for is not used.
    pub fallback: Option<String>,
}

/// Opens what was asked for.
///
/// # Errors
///
/// When a GPU is asked for by name and cannot be had.
pub fn open(choice: DeviceChoice) -> anyhow::Result<Opened> {
    let built_for_cuda = candle_core::utils::cuda_is_available();
    let cpu = |fallback| Opened {
        device: Device::Cpu,
        name: "cpu".to_string(),
        fallback,
    };
    match choice {
        DeviceChoice::Cpu => Ok(cpu(None)),
        DeviceChoice::Auto if !built_for_cuda => Ok(cpu(None)),
        DeviceChoice::Auto => Ok(match Device::new_cuda(0) {
            Ok(device) => Opened {
                device,
                name: "cuda:0".to_string(),
                fallback: None,
            },
            Err(error) => cpu(Some(format!("no GPU could be opened ({error})"))),
        }),
        DeviceChoice::Cuda(number) if !built_for_cuda => {
            bail!(
                "device cuda:{number} cannot be used: this program was built without CUDA; use --device cpu or --device auto"
            )
        }
        DeviceChoice::Cuda(number) => {
            let device = Device::new_cuda(number).with_context(|| {
                format!(
                    "device cuda:{number} cannot be opened; `nvidia-smi` lists what is there, --device cpu always works"
                )
            })?;
            Ok(Opened {
                device,
                name: format!("cuda:{number}"),
                fallback: None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_by_name_is_an_error_without_cuda() {
        let message = open(DeviceChoice::Cuda(1))
            .err()
            .expect("no CUDA here")
            .to_string();
        assert!(
            message.contains("cuda:1") && message.contains("--device cpu"),
            "{message}"
        );
    }
}
