//! Initialization of new parameters from candle's [`Init`] hints, with a seeded generator.
//!
//! candle's CPU generator cannot be seeded, so with it two runs would start from different weights.
//! In this module, the values of a parameter depend only on (seed, name, shape, hint). They do not
//! depend on other parameters or on the order in which the model requests them.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Part of the generator key. Separates this random stream from others with the same seed.
const DOMAIN: u64 = u64::from_le_bytes(*b"initpara");

/// Creates and initializes a variable of shape `shape`. `Kaiming` hints follow
/// `torch.nn.init.kaiming_{uniform,normal}_`.
pub(super) fn variable(
    init: Init,
    shape: &Shape,
    dtype: DType,
    device: &Device,
    seed: u64,
    name: &str,
) -> Result<Var> {
    let mut rng = generator(seed, name);
    let draw: Box<dyn FnMut() -> f64> = match init {
        Init::Const(value) => Box::new(move || value),
        Init::Uniform { lo, up } => Box::new(move || lo + (up - lo) * unit(&mut rng)),
        Init::Randn { mean, stdev } => Box::new(move || mean + stdev * normal(&mut rng)),
        Init::Kaiming {
            dist,
            fan,
            non_linearity,
        } => {
            let deviation = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let bound = 3f64.sqrt() * deviation;
            match dist {
                NormalOrUniform::Uniform => Box::new(move || bound * (2.0 * unit(&mut rng) - 1.0)),
                NormalOrUniform::Normal => Box::new(move || deviation * normal(&mut rng)),
            }
        }
    };
    let values = std::iter::repeat_with(draw).take(shape.elem_count());
    match dtype {
        DType::F64 => Var::from_vec(values.collect::<Vec<f64>>(), shape.clone(), device),
        DType::F32 => Var::from_vec(
            values.map(|x| x as f32).collect::<Vec<_>>(),
            shape.clone(),
            device,
        ),
        other => {
            let wide = Tensor::from_vec(
                values.map(|x| x as f32).collect::<Vec<_>>(),
                shape.clone(),
                device,
            )?;
            Var::from_tensor(&wide.to_dtype(other)?)
        }
    }
}

/// Creates the random generator for one parameter.
///
/// The key contains two 64-bit FNV-1a hashes of the name with different offset bases. Collisions
/// between the names of a model are practically impossible with 128 bits.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fnv = |start: u64| {
        name.bytes().fold(start, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(PRIME)
        })
    };
    let parts = [
        seed,
        DOMAIN,
        fnv(0xcbf2_9ce4_8422_2325),
        fnv(0x6c62_272e_07bb_0142),
    ];
    let mut key = [0u8; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Draws a uniform sample from [0, 1) with 53 bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * 2f64.powi(-53)
}

/// Draws a standard normal sample (Box and Muller, 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 − u is in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM};

    fn draw(init: Init, seed: u64, name: &str) -> Vec<f64> {
        let shape = Shape::from((400, 50));
        let var = variable(init, &shape, DType::F64, &Device::Cpu, seed, name).unwrap();
        var.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (
            mean,
            (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(),
        )
    }

    #[test]
    fn values_depend_on_seed_and_name() {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        assert_eq!(draw(init, 1, "a"), draw(init, 1, "a"));
        assert_ne!(draw(init, 1, "a"), draw(init, 2, "a"));
        assert_ne!(draw(init, 1, "a"), draw(init, 1, "b"));
    }

    #[test]
    fn distributions_have_the_requested_moments() {
        let (mean, deviation) = mean_and_deviation(&draw(
            Init::Randn {
                mean: 3.0,
                stdev: 2.0,
            },
            7,
            "w",
        ));
        assert!(
            (mean - 3.0).abs() < 0.06 && (deviation - 2.0).abs() < 0.05,
            "{mean} {deviation}"
        );

        let uniform = draw(Init::Uniform { lo: -1.0, up: 3.0 }, 7, "w");
        let (mean, deviation) = mean_and_deviation(&uniform);
        assert!(uniform.iter().all(|x| (-1.0..3.0).contains(x)));
        assert!(
            (mean - 1.0).abs() < 0.04 && (deviation - 4.0 / 12f64.sqrt()).abs() < 0.02,
            "{mean} {deviation}"
        );

        // With fan-in 50 and the ReLU gain, the standard deviation is sqrt(2 / 50) = 0.2.
        for init in [DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM] {
            let (mean, deviation) = mean_and_deviation(&draw(init, 7, "w"));
            assert!(
                mean.abs() < 0.006 && (deviation - 0.2).abs() < 0.004,
                "{mean} {deviation}"
            );
        }
    }
}
