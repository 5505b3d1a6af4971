//! What other devices than the CPU run, here on the CPU and, with the feature `cuda` or `metal`, on a GPU: against the
//! convolution as it is defined, in double precision, and against our own CPU kernels.

mod gpu;
mod naive;

use candle_core::{DType, Device, Tensor, Var};
use gpu::devices;
use naive::{Naive, random, relative_error};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use vgg::kernels::{self, ConvLayer, device};

/// The largest error allowed, relative to the tensor's largest value.
const ALLOWED: f64 = 1e-5;

fn variable(values: &[f32], shape: &[usize], device: &Device) -> Var {
    let tensor = Tensor::from_slice(values, shape, device).expect("a tensor");
    Var::from_tensor(&tensor).expect("a variable")
}

fn gradients<const N: usize>(y: &Tensor, g: &Tensor, of: [&Var; N]) -> [Tensor; N] {
    let store = (y.to_dtype(DType::F32).expect("f32") * g)
        .and_then(|y| y.sum_all()?.backward())
        .expect("backward");
    of.map(|var| store.get(var).expect("a gradient").clone())
}

#[test]
fn convolutions_equal_their_definition() {
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
        for at in devices() {
            let what = format!("{at:?} n={n} c={c} k={k} {h}x{w} pool={pool}");
            let x = variable(&x, &[n, c, h, w], &at);
            let weight = variable(&weight, &[k, c, 3, 3], &at);
            let bias = variable(&bias, &[k], &at);
            let g = Tensor::from_slice(&g, (n, k, oh, ow), &at).expect("a gradient");
            let layer = |weight: Tensor, bias: Tensor| {
                [ConvLayer::new(weight, bias, pool).expect("a layer")]
            };
            let tracked = layer(weight.as_tensor().clone(), bias.as_tensor().clone());
            let y = device::conv_stack(&x, &tracked).expect("forward");
            let frozen = layer(weight.as_detached_tensor(), bias.as_detached_tensor());
            let again = device::conv_stack(&x.as_detached_tensor(), &frozen).expect("forward");
            assert!(!again.track_op(), "{what}: a graph of what is frozen");
            let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
            for (name, ours, exact) in [
                ("forward", &y, &exact.y),
                ("forward without a graph", &again, &exact.y),
                ("x", &dx, &exact.x),
                ("weight", &dweight, &exact.weight),
                ("bias", &dbias, &exact.bias),
            ] {
                let off = relative_error(ours, exact);
                assert!(off <= ALLOWED, "{what}: {name} is off by {off:.1e}");
            }
        }
    }
}

#[test]
fn the_same_work_gives_the_same_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    // Enough pictures and pixels that a sum over them is worth dividing.
    let (n, c, k, side) = (8, 16, 32, 32);
    let x = random(&mut rng, n * c * side * side);
    let weight = random(&mut rng, k * c * 9);
    let bias = random(&mut rng, k);
    let g = random(&mut rng, n * k * side * side / 4);
    for at in devices() {
        let types = if at.is_cuda() {
            [DType::F32, DType::BF16]
        } else {
            [DType::F32, DType::F16]
        };
        for dtype in types {
            let run = || {
                let x = variable(&x, &[n, c, side, side], &at);
                let weight = variable(&weight, &[k, c, 3, 3], &at);
                let bias = variable(&bias, &[k], &at);
                let g = Tensor::from_slice(&g, (n, k, side / 2, side / 2), &at).expect("g");
                let layer =
                    ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), true);
                let short = x.to_dtype(dtype).expect("fewer bits");
                let y = device::conv_stack(&short, &[layer.expect("a layer")]).expect("forward");
                let gradients = gradients(&y, &g, [&x, &weight, &bias]);
                let y = y.to_dtype(DType::F32).expect("f32");
                let values = [&[y], gradients.as_slice()].concat().into_iter();
                let values = values.map(|t| t.flatten_all().and_then(|t| t.to_vec1::<f32>()));
                values.collect::<Result<Vec<_>, _>>().expect("values")
            };
            assert!(run() == run(), "{at:?} in {dtype:?}");
        }
    }
}

#[test]
fn what_is_frozen_gets_no_gradient() {
    for at in devices() {
        let x = Tensor::ones((1, 2, 4, 4), DType::F32, &at).expect("x");
        let weight = variable(&[0.1; 54], &[3, 2, 3, 3], &at);
        let bias = variable(&[0.0; 3], &[3], &at);
        let layer = ConvLayer::new(weight.as_detached_tensor(), bias.as_tensor().clone(), true);
        let y = device::conv_stack(&x, &[layer.expect("a layer")]).expect("forward");
        let store = y.sum_all().and_then(|y| y.backward()).expect("backward");
        assert!(store.get(&bias).is_some() && store.get(&weight).is_none());
        assert!(store.get(&x).is_none());
    }
}

#[test]
fn linear_layers_equal_the_cpus() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (n, input, output) = (5, 37, 11);
    let x = random(&mut rng, n * input);
    let weight = random(&mut rng, output * input);
    let bias = random(&mut rng, output);
    let g = random(&mut rng, n * output);
    let run = |at: &Device,
               linear: fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>| {
        let x = variable(&x, &[n, input], at);
        let weight = variable(&weight, &[output, input], at);
        let bias = variable(&bias, &[output], at);
        let g = Tensor::from_slice(&g, (n, output), at).expect("a gradient");
        let y = linear(&x, &weight, &bias).expect("forward");
        let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
        assert!(
            dweight.is_contiguous(),
            "the optimizer would have to copy it"
        );
        [y, dx, dweight, dbias]
    };
    let expected = run(&Device::Cpu, kernels::linear);
    for at in devices() {
        for (ours, expected) in run(&at, device::linear).iter().zip(&expected) {
            let expected = expected
                .to_dtype(DType::F64)
                .and_then(|t| t.flatten_all()?.to_vec1());
            let off = relative_error(ours, &expected.expect("f64"));
            assert!(off <= ALLOWED, "{at:?}: {off:.1e}");
        }
    }
}

#[test]
fn relu_keeps_nan_and_infinity_and_has_no_gradient_at_zero() {
    for at in devices() {
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
            &at,
        );
        let y = device::relu(&x).expect("forward");
        let values: Vec<f32> = y.to_vec1().expect("f32");
        assert_eq!(values[..4], [0.0, 0.0, 0.0, 2.0]);
        assert!(values[4].is_nan());
        assert_eq!(values[5..], [f32::INFINITY, 0.0]);
        let g = Tensor::ones(7, DType::F32, &at).expect("g");
        let store = (y * g)
            .and_then(|y| y.sum_all()?.backward())
            .expect("backward");
        let g: Vec<f32> = store
            .get(&x)
            .and_then(|g| g.to_vec1().ok())
            .expect("a gradient");
        assert_eq!(g[..4], [0.0, 0.0, 0.0, 1.0]);
    }
}

/// Weights of f32, layers in a shorter type: the gradients come back in f32, within the bits that it keeps. candle
/// multiplies no bf16 on the CPU; f16 goes the same way.
#[test]
fn f32_weights_train_in_fewer_bits() {
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
    for at in devices() {
        let x = variable(&x, &[2, 3, 6, 6], &at);
        let weight = variable(&weight, &[4, 3, 3, 3], &at);
        let bias = variable(&bias, &[4], &at);
        let g = Tensor::from_slice(&g, (2, 4, 6, 6), &at).expect("a gradient");
        let layer = ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), false);
        let (short, bits) = if at.is_cuda() {
            (DType::BF16, 8)
        } else {
            (DType::F16, 11)
        };
        let half = x.to_dtype(short).expect("fewer bits");
        let y = device::conv_stack(&half, &[layer.expect("a layer")]).expect("forward");
        assert_eq!(y.dtype(), short);
        let [dx, dweight, dbias] = gradients(&y, &g, [&x, &weight, &bias]);
        for (name, ours, exact) in [
            ("x", dx, &exact.x),
            ("weight", dweight, &exact.weight),
            ("bias", dbias, &exact.bias),
        ] {
            assert_eq!(ours.dtype(), DType::F32, "{name}");
            let off = relative_error(&ours, exact);
            assert!(off > 1e-6, "{name} was not computed in {short:?}");
            let allowed = 4.0 / f64::from(1 << bits);
            assert!(off <= allowed, "{at:?}: {name} is off by {off:.1e}");
        }
    }
}
