//! What a row is, and what a run of it has to show.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use trainer::Params;
use vgg::{Precision, VggConfig};

/// What weights, shuffling and dropout are drawn from.
pub const SEED: u64 = 1234;
/// Pictures in a batch, where the row does not say.
pub const BATCH: usize = 32;
/// A row's name, taken apart: `frozen forward b8 112px`, `cuda stage-2 step bf16 b32`.
pub struct Row {
    /// Where: a row that does not start with `cuda` runs on the CPU.
    pub device: Device,
    /// What layers round to: f32 unless a row on the GPU says otherwise.
    pub precision: Precision,
    /// What is done.
    pub work: String,
    /// Pictures in a batch.
    pub batch: usize,
    /// The pictures' height and width.
    pub size: usize,
}

impl Row {
    /// Takes a name apart.
    pub fn parse(name: &str) -> Result<Self> {
        let mut words: Vec<&str> = name.split_whitespace().collect();
        let number = |word: Option<&&str>, before, after| -> Option<usize> {
            word?
                .strip_prefix(before)?
                .strip_suffix(after)?
                .parse()
                .ok()
        };
        let size = number(words.last(), "", "px");
        words.truncate(words.len() - usize::from(size.is_some()));
        let batch = number(words.last(), "b", "");
        words.truncate(words.len() - usize::from(batch.is_some()));
        let on_gpu = words.first() == Some(&"cuda");
        let rounding = if on_gpu { words.pop() } else { None };
        let words = &words[usize::from(on_gpu)..];
        ensure!(!words.is_empty(), "`{name}` is no row");
        // Ten bits of f32 in products.
        candle_core::cuda::set_gemm_reduced_precision_f32(rounding == Some("tf32"));
        let device = match on_gpu {
            true => Device::new_cuda(0)?,
            false => Device::Cpu,
        };
        Ok(Self {
            device,
            precision: match rounding {
                None | Some("f32" | "tf32") => Precision::F32,
                Some("bf16") => Precision::Bf16,
                Some(other) => bail!("`{other}` is no precision"),
            },
            work: words.join(" "),
            batch: batch.unwrap_or(BATCH),
            size: size.unwrap_or(224),
        })
    }

    /// The pictures of a batch: (B, 3, size, size).
    pub fn pictures(&self) -> Result<Tensor> {
        let shape = (self.batch, 3, self.size, self.size);
        // Weyl's sequence: equidistributed in [-1, 1), the same everywhere.
        let value = |at: u64| {
            (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let count = (self.batch * 3 * self.size * self.size) as u64;
        Ok(Tensor::from_vec(
            (0..count).map(value).collect(),
            shape,
            &self.device,
        )?)
    }

    /// Whether it is whole epochs, of minutes.
    pub fn is_whole_epochs(&self) -> bool {
        ["stage-1 epochs", "two-stage recipe"].contains(&self.work.as_str())
    }

    /// What the convolution part makes of the pictures.
    pub fn features_shape(&self) -> Vec<usize> {
        vec![self.batch, 512, self.size / 32, self.size / 32]
    }
}

/// Runs the row once.
pub type Run = Box<dyn FnMut() -> Result<Proof>>;

/// What a run returns to show that it did its work.
pub struct Proof {
    result: Tensor,
    shape: Vec<usize>,
}

impl Proof {
    /// A result, and the shape that it must have.
    pub fn new(result: Tensor, shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        Self { result, shape }
    }

    /// Work that was not done, or went wrong, must not become a figure.
    pub fn check(&self) -> Result<()> {
        let values = self.result.flatten_all()?.to_dtype(DType::F32)?;
        let finite = values
            .to_vec1::<f32>()?
            .iter()
            .all(|value| value.is_finite());
        ensure!(
            self.result.dims() == self.shape && finite,
            "a wrong result: shape {:?}, not {:?}, or not finite",
            self.result.dims(),
            self.shape
        );
        Ok(())
    }
}

/// VGG-16 whose classifier has next to no weights, for rows that stop before it.
pub fn trunk() -> VggConfig {
    VggConfig {
        hidden: 1,
        ..VggConfig::vgg16(1)
    }
}

/// Random weights of a network, all frozen.
pub fn params(config: &VggConfig, device: &Device) -> Result<Params> {
    let tensors = vgg::init::from_scratch(config, SEED, device)?;
    Ok(Params::from_tensors(tensors, device)?)
}
