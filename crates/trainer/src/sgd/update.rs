//! The SGD update of one parameter, in place.
//!
//! Updates are limited by memory bandwidth. An update has to read the weights w, gradients g and
//! velocities v, and to write w and v. Tensor operations would also write and read back
//! g + weight_decay·w, the new velocity and lr·d. On the CPU, one loop ([`fused`]) updates f32
//! parameters in a single pass. Other devices and dtypes use candle's operations.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, Var, bail};

use super::{SgdConfig, fused};
use crate::gradients::Gradient;
use crate::snapshot::Snapshot;

/// The velocity (momentum buffer) of a parameter.
#[derive(Debug)]
pub(super) enum Velocity {
    /// Contiguous values for the fused update on the CPU.
    Host(Arc<Vec<f32>>),
    /// A tensor on the parameter's device, for updates with candle's operations.
    Device(Tensor),
}

impl Velocity {
    /// Creates the velocity of `var` from `tensor`, which has the same shape and dtype.
    pub(super) fn new(tensor: Tensor, var: &Var) -> Result<Self> {
        Ok(if is_fused(var) {
            Self::Host(Arc::new(tensor.flatten_all()?.to_vec1()?))
        } else {
            Self::Device(tensor.to_device(var.device())?)
        })
    }

    /// Takes a snapshot of the velocity of `var`.
    pub(super) fn snapshot(&self, var: &Var) -> Result<Snapshot> {
        match self {
            Self::Host(values) => Ok(Snapshot::velocity(Arc::clone(values), var.shape())),
            // Updates replace this tensor and never write to it.
            Self::Device(tensor) => Snapshot::new(tensor),
        }
    }
}

/// Whether the fused loop updates `var`.
fn is_fused(var: &Var) -> bool {
    var.device().is_cpu() && var.dtype() == DType::F32
}

/// Updates `var` with `gradient` and learning rate `lr`. With momentum, the first step creates the
/// velocity.
pub(super) fn apply(
    var: &Var,
    gradient: &Gradient,
    velocity: &mut Option<Velocity>,
    config: &SgdConfig,
    lr: f64,
) -> Result<()> {
    let (shape, dtype) = gradient.shape_and_dtype()?;
    if var.shape() != &shape || var.dtype() != dtype {
        let (w, g) = ((var.dims(), var.dtype()), (shape.dims(), dtype));
        bail!("the parameter has shape and dtype {w:?}, but its gradient has {g:?}");
    }
    if !is_fused(var) {
        return apply_tensors(var, &gradient.to_dense()?, velocity, config, lr);
    }
    let first = velocity.is_none();
    if first && config.momentum != 0.0 {
        // The operating system zeroes pages on demand, so creating the velocity is not
        // another pass over memory.
        *velocity = Some(Velocity::Host(Arc::new(vec![0.0; var.elem_count()])));
    }
    let velocity = match velocity {
        // `make_mut` copies the velocity if a snapshot refers to it.
        Some(Velocity::Host(v)) => Some(Arc::make_mut(v).as_mut_slice()),
        _ => None,
    };
    fused::update(var, gradient, velocity, config, lr, first)
}

/// Like [`apply`], but with candle's operations on the parameter's device instead of [`fused`].
fn apply_tensors(
    var: &Var,
    gradient: &Tensor,
    velocity: &mut Option<Velocity>,
    config: &SgdConfig,
    lr: f64,
) -> Result<()> {
    // A detached view, so that candle records no graph for the update.
    let w = var.as_detached_tensor();
    let mut g = gradient.detach();
    if config.weight_decay != 0.0 {
        g = (g + (&w * config.weight_decay)?)?;
    }
    let direction = if config.momentum == 0.0 {
        g
    } else {
        let v = match velocity.take() {
            Some(Velocity::Device(v)) => {
                let dampened = match 1.0 - config.dampening {
                    1.0 => g.clone(),
                    factor => (&g * factor)?,
                };
                ((v * config.momentum)? + dampened)?
            }
            Some(Velocity::Host(_)) => {
                bail!("the device or dtype of a parameter changed during training")
            }
            None => g.clone(),
        };
        let direction = if config.nesterov {
            (g + (&v * config.momentum)?)?
        } else {
            v.clone()
        };
        *velocity = Some(Velocity::Device(v));
        direction
    };
    var.set(&(w - (direction * lr)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const OPTIONS: [SgdConfig; 5] = [
        SgdConfig {
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
        },
        SgdConfig {
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.1,
            nesterov: false,
        },
        SgdConfig {
            momentum: 0.9,
            dampening: 0.0,
            weight_decay: 0.1,
            nesterov: false,
        },
        SgdConfig {
            momentum: 0.9,
            dampening: 0.3,
            weight_decay: 0.1,
            nesterov: false,
        },
        SgdConfig {
            momentum: 0.9,
            dampening: 0.0,
            weight_decay: 0.1,
            nesterov: true,
        },
    ];

    /// Number of values. With at least four threads, the update has three full chunks and a partial
    /// one.
    const LENGTH: usize = 3 * fused::SMALLEST_CHUNK + 10;

    fn wave(step: usize) -> Vec<f64> {
        (0..LENGTH)
            .map(|i| ((i * 7 + step * 13) as f64 * 0.37).sin())
            .collect()
    }

    /// Computes the parameter after `steps` updates in f64, with the rule of torch/optim/sgd.py.
    fn reference(config: &SgdConfig, lr: f64, steps: usize) -> Vec<f64> {
        let mut w = wave(100);
        let mut v = vec![0.0; LENGTH];
        for step in 0..steps {
            for ((w, v), g) in w.iter_mut().zip(&mut v).zip(wave(step)) {
                let g = g + config.weight_decay * *w;
                *v = if step == 0 {
                    g
                } else {
                    config.momentum * *v + (1.0 - config.dampening) * g
                };
                *w -= lr
                    * if config.nesterov {
                        g + config.momentum * *v
                    } else if config.momentum > 0.0 {
                        *v
                    } else {
                        g
                    };
            }
        }
        w
    }

    fn run(config: &SgdConfig, dtype: DType, transposed: bool) -> Vec<f64> {
        let tensor = |step| {
            Tensor::from_vec(wave(step), LENGTH, &Device::Cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        };
        // A transposed view, like the weight gradient of a matmul with a transposed weight.
        let shaped = |t: Tensor| {
            if transposed {
                t.reshape((2, LENGTH / 2)).unwrap().t().unwrap()
            } else {
                t
            }
        };
        let var = Var::from_tensor(&shaped(tensor(100))).unwrap();
        let mut velocity = None;
        for step in 0..4 {
            let gradient = shaped(tensor(step));
            assert_eq!(gradient.is_contiguous(), !transposed);
            apply(&var, &gradient.into(), &mut velocity, config, 0.05).unwrap();
        }
        let w = if transposed {
            var.t().unwrap()
        } else {
            var.as_tensor().clone()
        };
        w.flatten_all()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn fused_and_tensor_updates_match_the_f64_reference() {
        for config in &OPTIONS {
            let expected = reference(config, 0.05, 4);
            for (dtype, transposed, tolerance) in [
                (DType::F32, false, 1e-6),
                (DType::F32, true, 1e-6),
                (DType::F64, false, 1e-12),
            ] {
                let actual = run(config, dtype, transposed);
                let worst = actual
                    .iter()
                    .zip(&expected)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f64::max);
                assert!(worst < tolerance, "{config:?} {dtype:?}: {worst:e}");
            }
        }
    }

    #[test]
    fn a_gradient_that_does_not_match_the_parameter_is_an_error() {
        let var = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let low_rank = Gradient::LowRank {
            left: zeros(&[2, 3]),
            right: zeros(&[2, 1]),
        };
        // Factors with different numbers of rows, and with different dtypes.
        let uneven = Gradient::LowRank {
            left: zeros(&[2, 3]),
            right: zeros(&[1, 1]),
        };
        let mixed = Gradient::LowRank {
            left: zeros(&[2, 3]),
            right: zeros(&[2, 1]).to_dtype(DType::F64).unwrap(),
        };
        for gradient in [zeros(&[4]).into(), low_rank, uneven, mixed] {
            assert!(apply(&var, &gradient, &mut None, &OPTIONS[0], 0.1).is_err());
        }
    }

    fn factors(n: usize, dtype: DType) -> Gradient {
        let wave = |columns: usize| {
            let values = (0..n * columns).map(|i| (i as f32 * 0.37).sin());
            Tensor::from_iter(values, &Device::Cpu)
                .and_then(|t| t.reshape((n, columns))?.to_dtype(dtype))
                .unwrap()
        };
        Gradient::LowRank {
            left: wave(30),
            right: wave(1100),
        }
    }

    /// Returns a parameter (30, 1100) after three updates with `gradient`, as f64.
    fn updated(gradient: &Gradient, dtype: DType, config: &SgdConfig) -> Vec<f64> {
        let values = (0..30 * 1100).map(|i| (i as f32 * 0.11).sin());
        let start = Tensor::from_iter(values, &Device::Cpu)
            .and_then(|t| t.reshape((30, 1100))?.to_dtype(dtype))
            .unwrap();
        let (var, mut velocity) = (Var::from_tensor(&start).unwrap(), None);
        for _ in 0..3 {
            apply(&var, gradient, &mut velocity, config, 0.05).unwrap();
        }
        let values = var.flatten_all().and_then(|w| w.to_dtype(DType::F64));
        values.and_then(|w| w.to_vec1()).unwrap()
    }

    #[test]
    fn a_low_rank_update_matches_the_dense_update_in_f64() {
        for config in &OPTIONS {
            for n in [0, 1, 5] {
                let dense = factors(n, DType::F64).to_dense().unwrap();
                let expected = updated(&dense.into(), DType::F64, config);
                let actual = updated(&factors(n, DType::F32), DType::F32, config);
                let pairs = actual.iter().zip(&expected);
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-6, "{config:?} {n}: {worst:e}");
            }
        }
    }

    #[test]
    fn a_low_rank_update_has_the_same_bits_for_any_number_of_threads() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let low_rank = factors(5, DType::F32);
            pool.unwrap()
                .install(|| updated(&low_rank, DType::F32, &OPTIONS[3]))
        };
        for threads in 2..5 {
            assert_eq!(on(threads), on(1), "{threads} threads");
        }
    }
}
