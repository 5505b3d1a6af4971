//! The type that layers compute in.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Result, Tensor, bail};

/// What activations and products are rounded to. Weights, their gradients and the logits are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: f32's range with eight bits. Each layer rounds its weights for itself, as PyTorch's autocast does.
    /// On NVIDIA's GPUs only, where it is several times faster.
    Bf16,
}

impl Precision {
    /// Whether a device computes in it.
    pub fn runs_on(self, device: &Device) -> bool {
        self == Self::F32 || device.is_cuda()
    }

    /// `x` as layers take it. f32 leaves the type of `x` alone.
    pub(crate) fn of(self, x: &Tensor) -> Result<Tensor> {
        if !self.runs_on(x.device()) {
            bail!("{self} is for NVIDIA's GPUs; on other devices compute in f32");
        }
        match self {
            Self::F32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("unknown precision; expected f32 or bf16".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_refuses_bf16() {
        let x = Tensor::ones(1, DType::F32, &Device::Cpu).expect("x");
        assert_eq!(Precision::F32.of(&x).expect("f32").dtype(), DType::F32);
        let error = Precision::Bf16.of(&x).expect_err("no bf16 on the CPU");
        assert!(error.to_string().contains("bf16"), "{error}");
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
    }
}
