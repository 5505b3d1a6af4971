//! Trains a small convolutional network to classify images of horizontal and vertical stripes.
//!
//! ```sh
//! cargo run -p kernels --example cnn
//! ```

use kernels::candle_core::{D, DType, Device, Result, Tensor};
use kernels::candle_nn::{self, Optimizer, SGD, VarBuilder, VarMap, loss::cross_entropy};
use kernels::{ConvLayer, conv_stack, linear};

const SIDE: usize = 12;

struct Cnn {
    convolutions: Vec<ConvLayer>,
    weight: Tensor,
    bias: Tensor,
}

impl Cnn {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            convolutions: vec![
                ConvLayer::load(1, 8, true, vb.pp("0"))?,
                ConvLayer::load(8, 16, true, vb.pp("1"))?,
            ],
            weight: vb.get_with_hints(
                (2, 16),
                "2.weight",
                candle_nn::init::DEFAULT_KAIMING_UNIFORM,
            )?,
            bias: vb.get_with_hints(2, "2.bias", candle_nn::init::ZERO)?,
        })
    }

    /// Images (n, 1, h, w) → logits (n, 2). The output of the convolutions is averaged over all
    /// pixels.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let features = conv_stack(x, &self.convolutions)?.mean((2, 3))?;
        linear(&features, &self.weight, &self.bias)
    }
}

/// `n` noisy images of stripes with a period of 4 pixels and a random phase, and their labels: 0
/// for horizontal, 1 for vertical.
fn stripes(n: usize) -> Result<(Tensor, Tensor)> {
    let device = &Device::Cpu;
    let noise = Tensor::randn(0f32, 0.3, (n, 1, SIDE, SIDE), device)?;
    let phase = (Tensor::rand(0f32, 4.0, (n, 1, 1, 1), device)?).floor()?;
    let steps = Tensor::arange(0f32, SIDE as f32, device)?.reshape((1, 1, SIDE, 1))?;
    let angle = (phase.broadcast_add(&steps)? * std::f64::consts::FRAC_PI_2)?;
    let rows = angle.sin()?.broadcast_as(noise.shape())?;
    let labels = Tensor::from_iter((0..n as u32).map(|image| image % 2), device)?;
    let vertical = labels.reshape((n, 1, 1, 1))?.broadcast_as(noise.shape())?;
    let images = vertical.where_cond(&rows.t()?.contiguous()?, &rows.contiguous()?)?;
    Ok(((images + noise)?, labels))
}

fn main() -> Result<()> {
    let vars = VarMap::new();
    let network = Cnn::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let mut sgd = SGD::new(vars.all_vars(), 0.1)?;
    for step in 0..200 {
        let (images, labels) = stripes(32)?;
        let loss = cross_entropy(&network.forward(&images)?, &labels)?;
        if step % 50 == 0 {
            println!("step {step:3}: loss {:.3}", loss.to_scalar::<f32>()?);
        }
        sgd.backward_step(&loss)?;
    }
    let (images, labels) = stripes(500)?;
    let predicted = network.forward(&images)?.argmax(D::Minus1)?;
    let correct = predicted.eq(&labels)?.to_dtype(DType::F32)?;
    let accuracy = correct.mean_all()?.to_scalar::<f32>()?;
    println!("accuracy on new images: {:.1} %", 100.0 * accuracy);
    assert!(accuracy > 0.95, "the accuracy is at most 95 %");
    Ok(())
}
