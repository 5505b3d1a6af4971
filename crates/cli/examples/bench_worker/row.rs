//! Parses the names of benchmark rows, and checks the results of their runs.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use trainer::Params;
use vgg::{Precision, VggConfig};

/// Seed for weights, shuffling and dropout.
pub const SEED: u64 = 1234;
/// Default batch size.
pub const BATCH: usize = 32;

/// A parsed row name, such as `frozen forward b8 112px` or `cuda stage-2 step bf16 b32`.
pub struct Row {
    /// The first CUDA GPU if the name starts with `cuda`, otherwise the CPU.
    pub device: Device,
    /// Compute precision: for rows on the GPU, the one in the name, where `tf32` means f32 with
    /// TF32 matrix products. Rows on the CPU compute in f32.
    pub precision: Precision,
    /// The measured operation, such as `stage-1 step`.
    pub workload: String,
    /// Number of images in a batch.
    pub batch: usize,
    /// Height and width of the images, in pixels.
    pub size: usize,
}

impl Row {
    /// Parses a row name.
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
        let precision = if on_gpu { words.pop() } else { None };
        let words = &words[usize::from(on_gpu)..];
        ensure!(!words.is_empty(), "row `{name}` names no operation");
        // With TF32, matrix products keep 10 of f32's 23 mantissa bits.
        candle_core::cuda::set_gemm_reduced_precision_f32(precision == Some("tf32"));
        let device = match on_gpu {
            true => Device::new_cuda(0)?,
            false => Device::Cpu,
        };
        Ok(Self {
            device,
            precision: match precision {
                None | Some("f32" | "tf32") => Precision::F32,
                Some("bf16") => Precision::Bf16,
                Some(other) => bail!("unknown precision `{other}`"),
            },
            workload: words.join(" "),
            batch: batch.unwrap_or(BATCH),
            size: size.unwrap_or(224),
        })
    }

    /// A batch of synthetic images of shape (batch, 3, size, size).
    pub fn images(&self) -> Result<Tensor> {
        let shape = (self.batch, 3, self.size, self.size);
        // A Weyl sequence: equidistributed in [-1, 1) and identical on every machine.
        let value = |index: u64| {
            (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let count = (self.batch * 3 * self.size * self.size) as u64;
        Ok(Tensor::from_vec(
            (0..count).map(value).collect(),
            shape,
            &self.device,
        )?)
    }

    /// Whether a run trains whole epochs, which takes minutes.
    pub fn is_whole_epochs(&self) -> bool {
        ["stage-1 epochs", "two-stage recipe"].contains(&self.workload.as_str())
    }

    /// Shape of the backbone's output: (batch, 512, size / 32, size / 32).
    pub fn features_shape(&self) -> Vec<usize> {
        vec![self.batch, 512, self.size / 32, self.size / 32]
    }
}

/// A function that runs the row once.
pub type Run = Box<dyn FnMut() -> Result<Output>>;

/// The result of a run and its expected shape. [`check`](Self::check) detects a run that failed.
pub struct Output {
    result: Tensor,
    shape: Vec<usize>,
}

impl Output {
    /// Combines a result with its expected shape.
    pub fn new(result: Tensor, shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        Self { result, shape }
    }

    /// Checks the shape of the result and that all its values are finite.
    ///
    /// # Errors
    ///
    /// Returns an error if a check fails, so that the time of a failed run is never reported.
    pub fn check(&self) -> Result<()> {
        let values = self.result.flatten_all()?.to_dtype(DType::F32)?;
        let finite = values
            .to_vec1::<f32>()?
            .iter()
            .all(|value| value.is_finite());
        ensure!(
            self.result.dims() == self.shape && finite,
            "wrong result: shape {:?} instead of {:?}, or non-finite values",
            self.result.dims(),
            self.shape
        );
        Ok(())
    }
}

/// A VGG-16 with a classifier of width 1, for rows that run only the backbone.
pub fn backbone() -> VggConfig {
    VggConfig {
        hidden: 1,
        ..VggConfig::vgg16(1)
    }
}

/// Randomly initialized parameters, all frozen.
pub fn params(config: &VggConfig, device: &Device) -> Result<Params> {
    let tensors = vgg::init::from_scratch(config, SEED, device)?;
    Ok(Params::from_tensors(tensors, device)?)
}
