//! The precision in which layers compute.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor, bail};

/// Dtype of activations and matrix products. Weights, their gradients and the logits are always
/// f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// bfloat16: the range of f32 with 8 bits of precision, several times faster than f32.
    /// Supported only on NVIDIA GPUs.
    ///
    /// As with PyTorch's autocast, each layer rounds its own weights: trainable weights for each
    /// batch, frozen weights once.
    Bf16,
}

impl Precision {
    /// Whether `device` supports this precision.
    pub fn runs_on(self, device: &Device) -> bool {
        self == Self::F32 || device.is_cuda()
    }

    /// Casts the input or the weights of a layer to bf16, or returns them unchanged for f32. Fails
    /// if their device does not support the precision.
    pub(crate) fn cast(self, x: &Tensor) -> Result<Tensor> {
        if !self.runs_on(x.device()) {
            bail!("{self} is only supported on NVIDIA GPUs");
        }
        match self {
            Self::F32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16),
        }
    }
}

/// A value computed from a layer's frozen weights on first use. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Memo<T>(Arc<OnceLock<T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Memo<T> {
    /// Returns the stored value. If there is none, calls `init` and stores its result unless it is
    /// an error.
    pub(crate) fn get_or_try_init(&self, init: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(value) = self.0.get() {
            return Ok(value.clone());
        }
        let value = init()?;
        // If another thread stored its value first, that value is returned. Both values are equal.
        Ok(self.0.get_or_init(|| value).clone())
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
            _ => Err("unknown precision, expected f32 or bf16".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_an_error_on_the_cpu_and_names_are_parsed() {
        let x = Tensor::ones(1, DType::F32, &Device::Cpu).expect("x");
        assert_eq!(Precision::F32.cast(&x).expect("f32").dtype(), DType::F32);
        let error = Precision::Bf16.cast(&x).expect_err("no bf16 on the CPU");
        assert!(error.to_string().contains("bf16"), "{error}");
        assert!(Precision::F32.runs_on(&Device::Cpu) && !Precision::Bf16.runs_on(&Device::Cpu));
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
    }

    #[test]
    fn a_memo_stores_the_first_value_but_not_errors() {
        let memo = Memo::default();
        assert!(memo.get_or_try_init(|| bail!("no memory")).is_err());
        assert_eq!(memo.clone().get_or_try_init(|| Ok(1)).expect("a value"), 1);
        assert_eq!(memo.get_or_try_init(|| Ok(2)).expect("the stored value"), 1);
    }
}
