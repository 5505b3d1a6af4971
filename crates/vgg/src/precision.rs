//! The type that layers compute in.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor, bail};

/// What activations and products are rounded to. Weights, their gradients and the logits are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: f32's range with eight bits. Each layer rounds its weights for itself, as PyTorch's autocast does:
    /// those that train for each batch, frozen ones once. On NVIDIA's GPUs only, where it is several times faster.
    Bf16,
}

impl Precision {
    /// Whether a device computes in it.
    pub fn runs_on(self, device: &Device) -> bool {
        self == Self::F32 || device.is_cuda()
    }

    /// `x` as layers take it. f32 leaves the type of `x` alone.
    pub(crate) fn cast(self, x: &Tensor) -> Result<Tensor> {
        if !self.runs_on(x.device()) {
            bail!("{self} is for NVIDIA's GPUs; on other devices compute in f32");
        }
        match self {
            Self::F32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16),
        }
    }
}

/// What a layer makes of weights that do not change, when it first needs it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Memo<T>(Arc<OnceLock<T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Memo<T> {
    /// What was made, or else what `make` makes now.
    pub(crate) fn get_or_try_init(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(made) = self.0.get() {
            return Ok(made.clone());
        }
        let made = make()?;
        // Another thread may have been faster; its values are the same.
        Ok(self.0.get_or_init(|| made).clone())
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
        assert_eq!(Precision::F32.cast(&x).expect("f32").dtype(), DType::F32);
        let error = Precision::Bf16.cast(&x).expect_err("no bf16 on the CPU");
        assert!(error.to_string().contains("bf16"), "{error}");
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
    }

    #[test]
    fn what_cannot_be_made_is_tried_again_and_what_was_made_is_kept() {
        let memo = Memo::default();
        assert!(memo.get_or_try_init(|| bail!("no memory")).is_err());
        assert_eq!(memo.clone().get_or_try_init(|| Ok(1)).expect("made"), 1);
        assert_eq!(memo.get_or_try_init(|| Ok(2)).expect("kept"), 1);
    }
}
