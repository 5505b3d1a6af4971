//! Initialization of new parameters and buffers.
//!
//! The distributions match PyTorch: the default of `nn.Linear` for new layers in a pretrained
//! network, and the initialization of torchvision's VGG for a whole network. The values themselves
//! differ, because each tensor has its own random stream, keyed by the seed and its name. They
//! therefore do not depend on other layers.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::config::VggConfig;
use crate::error::Error;
use crate::random::{fnv1a, keyed, uniform};

/// Initializes a weight or bias as `nn.Linear` does: U(−b, b) with b = 1/√inputs.
///
/// torch/nn/modules/linear.py specifies the same distribution as `kaiming_uniform_` with a = √5.
///
/// # Errors
///
/// Returns an error if the tensor cannot be created on the device.
pub fn linear_default(
    name: &str,
    shape: &[usize],
    inputs: usize,
    seed: u64,
    device: &Device,
) -> Result<Tensor, Error> {
    let bound = 1.0 / (inputs as f32).sqrt();
    let mut rng = keyed(b"init\0\0\0\0", [seed, fnv1a(name), 0]);
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| (2.0 * uniform(&mut rng) - 1.0) * bound)
        .collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// Initializes all tensors of a network as torchvision's `VGG(init_weights=True)` does.
///
/// Convolution weights are drawn from N(0, 2/(9·out)) (`kaiming_normal_` with `fan_out`) and linear
/// weights from N(0, 0.01²). Biases are 0. Batch norms have weight 1 and bias 0, mean 0
/// and variance 1.
///
/// # Errors
///
/// Returns an error if the configuration is invalid or if a tensor cannot be created on the device.
pub fn from_scratch(
    config: &VggConfig,
    seed: u64,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let shapes = config.tensor_shapes()?;
    let draw = |(name, shape): (String, Vec<usize>)| {
        let count: usize = shape.iter().product();
        let deviation = match shape.len() {
            4 => (2.0 / (9 * shape[0]) as f64).sqrt(),
            2 => 0.01,
            _ => 0.0,
        };
        let is_one =
            name.ends_with(".running_var") || shape.len() == 1 && name.ends_with(".weight");
        let values = match deviation {
            _ if is_one => vec![1f32; count],
            0.0 => vec![0f32; count],
            deviation => normal(&name, count, deviation, seed),
        };
        Ok((name, Tensor::from_vec(values, shape, device)?))
    };
    shapes.into_iter().map(draw).collect()
}

/// Draws samples from N(0, deviation²) with the Box-Muller transform (1958).
fn normal(name: &str, count: usize, deviation: f64, seed: u64) -> Vec<f32> {
    let mut rng = keyed(b"init\0\0\0\0", [seed, fnv1a(name), 1]);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u is in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * f64::from(1.0 - uniform(&mut rng)).ln()).sqrt() * deviation;
        let angle = std::f64::consts::TAU * f64::from(uniform(&mut rng));
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_layers_are_uniform_within_their_bound() {
        let tensor = linear_default("classifier.6.weight", &[100, 400], 400, 7, &Device::Cpu);
        let values: Vec<f32> = tensor
            .and_then(|tensor| Ok(tensor.flatten_all()?.to_vec1()?))
            .expect("a tensor of f32");
        assert!(values.iter().all(|v| v.abs() <= 0.05));
        // The standard deviation of U(−b, b) is b/√3. The tolerance for the estimate from 40,000
        // samples is 1 %.
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((square.sqrt() / (0.05 / 3f32.sqrt()) - 1.0).abs() < 0.01);
    }

    #[test]
    fn convolutions_have_kaiming_deviation_and_zero_bias() {
        let tensors = from_scratch(
            &VggConfig::slim_vgg16([16; 5], 8, 1, 32, 2),
            1,
            &Device::Cpu,
        )
        .expect("a small network");
        let values = |name: &str| -> Vec<f32> {
            let flat = tensors[name].flatten_all().expect("flat");
            flat.to_vec1().expect("f32")
        };
        let weights = values("features.2.weight");
        let square = weights.iter().map(|v| v * v).sum::<f32>() / weights.len() as f32;
        assert!((square / (2.0 / (9.0 * 16.0)) - 1.0).abs() < 0.1);
        assert!(values("features.2.bias").iter().all(|&b| b == 0.0));
    }
}
