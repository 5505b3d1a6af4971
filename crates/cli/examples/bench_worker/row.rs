//! The names, networks and inputs of benchmark rows, and the checks of their results.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use trainer::Params;
use vgg::{Precision, VggConfig};

/// Seed for the weights, and for dropout in single training steps.
pub const SEED: u64 = 1234;
/// Default batch size.
pub const BATCH: usize = 32;

/// A parsed row name, such as `frozen forward b8 112px` or `cuda stage-2 step bf16 b32`.
pub struct Row {
    /// The first CUDA GPU if the name contains `cuda`, otherwise the CPU.
    pub device: Device,
    /// Compute precision: bf16 if the name contains `bf16`, otherwise f32.
    pub precision: Precision,
    /// The measured operation, such as `stage-1 step`.
    pub workload: String,
    /// Number of images in a batch.
    pub batch: usize,
    /// Height and width of the images, in pixels.
    pub size: usize,
}

impl Row {
    /// Parses a row name, and opens the GPU if the name contains `cuda`. The word `tf32` makes
    /// candle round the inputs of f32 matrix products to 10 of 23 mantissa bits, in the whole process.
    pub fn parse(name: &str) -> Result<Self> {
        let mut row = Self {
            device: Device::Cpu,
            precision: Precision::F32,
            workload: String::new(),
            batch: BATCH,
            size: 224,
        };
        let mut words = Vec::new();
        for word in name.split_whitespace() {
            let batch = word.strip_prefix('b').and_then(|batch| batch.parse().ok());
            let size = word.strip_suffix("px").and_then(|size| size.parse().ok());
            match word {
                "cuda" => row.device = Device::new_cuda(0)?,
                "f32" => {}
                "tf32" => candle_core::cuda::set_gemm_reduced_precision_f32(true),
                "bf16" => row.precision = Precision::Bf16,
                _ if batch.is_some() => row.batch = batch.unwrap_or(BATCH),
                _ if size.is_some() => row.size = size.unwrap_or(224),
                word => words.push(word),
            }
        }
        row.workload = words.join(" ");
        Ok(row)
    }

    /// A batch of synthetic images, of shape (batch, 3, size, size), on the device of the row.
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

/// The result of a run, and the shape that it must have.
pub struct Output(pub Tensor, pub Vec<usize>);

impl Output {
    /// Checks the shape and that all values are finite, so that no failed run is reported.
    pub fn check(&self) -> Result<()> {
        let Self(result, shape) = self;
        let values = result.flatten_all()?.to_dtype(DType::F32)?;
        let values = values.to_vec1::<f32>()?;
        ensure!(
            result.dims() == shape && values.iter().all(|value| value.is_finite()),
            "wrong result: shape {:?} instead of {shape:?}, or non-finite values",
            result.dims()
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
