//! Compares the convolutions of `kernels::device` with a naive f64 reference, and the linear layers
//! with the CPU kernel. Also tests determinism, frozen tensors, NaN in ReLU and half precision.
//!
//! The tests run on the CPU and, with the feature `cuda` or `metal`, also on a GPU.

mod naive;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device, Tensor, Var};
use kernels::{self, ConvLayer, device};
use naive::{Naive, random, relative_error};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The CPU and, with the feature `cuda` or `metal`, the first GPU.
///
/// Each call opens the GPU again, because tests that run in parallel with the same `Device` would
/// share a cuBLAS workspace.
fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if cuda_is_available() {
        devices.push(Device::new_cuda(0).expect("a GPU for CUDA"));
    }
    if metal_is_available() {
        devices.push(Device::new_metal(0).expect("a GPU for Metal"));
    }
    devices
}

/// Maximum error relative to the largest value of the tensor.
const TOLERANCE: f64 = 1e-5;

fn variable(values: &[f32], shape: &[usize], device: &Device) -> Var {
    let tensor = Tensor::from_slice(values, shape, device).expect("a tensor");
    Var::from_tensor(&tensor).expect("a variable")
}

/// Gradients of Σ y·g with respect to `vars`.
fn gradients<const N: usize>(y: &Tensor, g: &Tensor, vars: [&Var; N]) -> [Tensor; N] {
    let store = (y.to_dtype(DType::F32).expect("f32") * g)
        .and_then(|y| y.sum_all()?.backward())
        .expect("backward");
    vars.map(|var| store.get(var).expect("a gradient").clone())
}

#[test]
fn convolutions_match_the_naive_reference() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (n, c, k, h, w, pool) in [
        (2, 3, 5, 8, 6, true),
        (3, 4, 2, 7, 9, true),
        (1, 2, 3, 1, 1, false),
        (2, 6, 7, 5, 4, false),
        (2, 17, 9, 2, 3, true),
    ] {
        let naive = Naive {
            n,
            c,
            k,
            h,
            w,
            pool,
        };
        let (oh, ow) = naive.output_size();
        let x = random(&mut rng, n * c * h * w);
        let weight = random(&mut rng, k * c * 9);
        let bias = random(&mut rng, k);
        let g = random(&mut rng, n * k * oh * ow);
        let exact = naive.run(&x, &weight, &bias, &g);
        for device in devices() {
            let case = format!("{device:?} n={n} c={c} k={k} {h}x{w} pool={pool}");
            let x = variable(&x, &[n, c, h, w], &device);
            let weight = variable(&weight, &[k, c, 3, 3], &device);
            let bias = variable(&bias, &[k], &device);
            let g = Tensor::from_slice(&g, (n, k, oh, ow), &device).expect("a gradient");
            let layer = |weight: Tensor, bias: Tensor| {
                [ConvLayer::new(weight, bias, pool).expect("a layer")]
            };
            let tracked = layer(weight.as_tensor().clone(), bias.as_tensor().clone());
            let y = device::conv_stack(&x, &tracked).expect("forward");
            let frozen = layer(weight.as_detached_tensor(), bias.as_detached_tensor());
            let untracked = device::conv_stack(&x.as_detached_tensor(), &frozen).expect("forward");
            assert!(
                !untracked.track_op(),
                "{case}: frozen layers recorded a graph"
            );
            let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
            for (name, actual, expected) in [
                ("y", &y, &exact.y),
                ("y without a graph", &untracked, &exact.y),
                ("dx", &dx, &exact.x),
                ("dweight", &dweight, &exact.weight),
                ("dbias", &dbias, &exact.bias),
            ] {
                let error = relative_error(actual, expected);
                assert!(error <= TOLERANCE, "{case}: error of {name} is {error:.1e}");
            }
        }
    }
}

#[test]
fn repeated_runs_are_bit_identical() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    // These sizes are large enough that a GPU splits the sums over images and pixels.
    let (n, c, k, side) = (8, 16, 32, 32);
    let x = random(&mut rng, n * c * side * side);
    let weight = random(&mut rng, k * c * 9);
    let bias = random(&mut rng, k);
    let g = random(&mut rng, n * k * side * side / 4);
    for device in devices() {
        let dtypes = if device.is_cuda() {
            [DType::F32, DType::BF16]
        } else {
            [DType::F32, DType::F16]
        };
        for dtype in dtypes {
            let run = || {
                let x = variable(&x, &[n, c, side, side], &device);
                let weight = variable(&weight, &[k, c, 3, 3], &device);
                let bias = variable(&bias, &[k], &device);
                let g = Tensor::from_slice(&g, (n, k, side / 2, side / 2), &device).expect("g");
                let layer =
                    ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), true);
                let x_cast = x.to_dtype(dtype).expect("a cast");
                let y = device::conv_stack(&x_cast, &[layer.expect("a layer")]).expect("forward");
                let gradients = gradients(&y, &g, [&x, &weight, &bias]);
                let y = y.to_dtype(DType::F32).expect("f32");
                let values = [&[y], gradients.as_slice()].concat().into_iter();
                let values = values.map(|t| t.flatten_all().and_then(|t| t.to_vec1::<f32>()));
                values.collect::<Result<Vec<_>, _>>().expect("values")
            };
            assert!(run() == run(), "{device:?} {dtype:?}: two runs differ");
        }
    }
}

#[test]
fn frozen_tensors_get_no_gradient() {
    for device in devices() {
        let x = Tensor::ones((1, 2, 4, 4), DType::F32, &device).expect("x");
        let weight = variable(&[0.1; 54], &[3, 2, 3, 3], &device);
        let bias = variable(&[0.0; 3], &[3], &device);
        let layer = ConvLayer::new(weight.as_detached_tensor(), bias.as_tensor().clone(), true);
        let y = device::conv_stack(&x, &[layer.expect("a layer")]).expect("forward");
        let store = y.sum_all().and_then(|y| y.backward()).expect("backward");
        assert!(store.get(&bias).is_some() && store.get(&weight).is_none());
        assert!(store.get(&x).is_none());
    }
}

#[test]
fn linear_layers_match_the_cpu_kernel() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (n, input, output) = (5, 37, 11);
    let x = random(&mut rng, n * input);
    let weight = random(&mut rng, output * input);
    let bias = random(&mut rng, output);
    let g = random(&mut rng, n * output);
    let run = |device: &Device,
               linear: fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>| {
        let x = variable(&x, &[n, input], device);
        let weight = variable(&weight, &[output, input], device);
        let bias = variable(&bias, &[output], device);
        let g = Tensor::from_slice(&g, (n, output), device).expect("a gradient");
        let y = linear(&x, &weight, &bias).expect("forward");
        let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
        assert!(
            dweight.is_contiguous(),
            "the weight gradient is strided, so the optimizer would copy it"
        );
        [y, dx, dweight, dbias]
    };
    let expected = run(&Device::Cpu, kernels::linear);
    for device in devices() {
        for (actual, expected) in run(&device, device::linear).iter().zip(&expected) {
            let expected = expected
                .to_dtype(DType::F64)
                .and_then(|t| t.flatten_all()?.to_vec1());
            let error = relative_error(actual, &expected.expect("f64"));
            assert!(error <= TOLERANCE, "{device:?}: error is {error:.1e}");
        }
    }
}

#[test]
fn relu_propagates_nan_and_has_zero_gradient_at_zero() {
    for device in devices() {
        let x = variable(
            &[
                -1.0,
                -0.0,
                0.0,
                2.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
            ],
            &[7],
            &device,
        );
        let y = device::relu(&x).expect("forward");
        let values: Vec<f32> = y.to_vec1().expect("f32");
        assert_eq!(values[..4], [0.0, 0.0, 0.0, 2.0]);
        assert!(values[4].is_nan());
        assert_eq!(values[5..], [f32::INFINITY, 0.0]);
        let g = Tensor::ones(7, DType::F32, &device).expect("g");
        let store = (y * g)
            .and_then(|y| y.sum_all()?.backward())
            .expect("backward");
        let g: Vec<f32> = store
            .get(&x)
            .and_then(|g| g.to_vec1().ok())
            .expect("a gradient");
        assert_eq!(g[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
    }
}

/// A layer that computes in half precision, bf16 on CUDA and f16 elsewhere, returns f32 gradients
/// for f32 weights, with the accuracy of half precision.
#[test]
fn f32_weights_train_in_half_precision() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let naive = Naive {
        n: 2,
        c: 3,
        k: 4,
        h: 6,
        w: 6,
        pool: false,
    };
    let x = random(&mut rng, 2 * 3 * 36);
    let weight = random(&mut rng, 4 * 27);
    let bias = random(&mut rng, 4);
    let g = random(&mut rng, 2 * 4 * 36);
    let exact = naive.run(&x, &weight, &bias, &g);
    for device in devices() {
        let x = variable(&x, &[2, 3, 6, 6], &device);
        let weight = variable(&weight, &[4, 3, 3, 3], &device);
        let bias = variable(&bias, &[4], &device);
        let g = Tensor::from_slice(&g, (2, 4, 6, 6), &device).expect("a gradient");
        let layer = ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), false);
        let (dtype, bits) = if device.is_cuda() {
            (DType::BF16, 8)
        } else {
            (DType::F16, 11)
        };
        let x_cast = x.to_dtype(dtype).expect("a cast");
        let y = device::conv_stack(&x_cast, &[layer.expect("a layer")]).expect("forward");
        assert_eq!(y.dtype(), dtype);
        let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
        for (name, actual, expected) in [
            ("dx", dx, &exact.x),
            ("dweight", dweight, &exact.weight),
            ("dbias", dbias, &exact.bias),
        ] {
            assert_eq!(actual.dtype(), DType::F32, "{name}");
            let error = relative_error(&actual, expected);
            assert!(error > 1e-6, "{name} was not computed in {dtype:?}");
            let tolerance = 4.0 / f64::from(1 << bits);
            assert!(
                error <= tolerance,
                "{device:?}: error of {name} is {error:.1e}"
            );
        }
    }
}
