//! Compares the CPU kernels with naive f64 versions: convolutions with every available instruction
//! set, linear layers and adaptive pools. Also tests NaN, ties, batch sizes and thread counts.

mod naive;

use candle_core::{Device, Tensor, Var};
use kernels::{ConvLayer, Isa, adaptive_avg_pool2d, conv_stack, linear, relu};
use naive::{Naive, random, relative_error};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const CPU: Device = Device::Cpu;

/// Maximum error, relative to the largest value of the tensor.
const TOLERANCE: f64 = 5e-6;

fn below(rng: &mut ChaCha8Rng, limit: usize) -> usize {
    rng.next_u32() as usize % limit
}

fn variable(values: Vec<f32>, shape: &[usize]) -> Var {
    let tensor = Tensor::from_vec(values, shape, &CPU).expect("a tensor");
    Var::from_tensor(&tensor).expect("a variable")
}

fn check(isa: Isa, naive: &Naive, seed: u64) {
    let &Naive {
        n,
        c,
        k,
        h,
        w,
        pool,
    } = naive;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (oh, ow) = naive.output_size();
    let x = random(&mut rng, n * c * h * w);
    let weight = random(&mut rng, k * c * 9);
    let bias = random(&mut rng, k);
    let g = random(&mut rng, n * k * oh * ow);
    let expected = naive.run(&x, &weight, &bias, &g);
    let (x, weight, bias) = (
        variable(x, &[n, c, h, w]),
        variable(weight, &[k, c, 3, 3]),
        variable(bias, &[k]),
    );
    let case = format!("{isa:?} n={n} c={c} k={k} {h}x{w} pool={pool}");

    let layer = |weight: Tensor, bias: Tensor| {
        ConvLayer::with_isa(weight, bias, pool, isa).expect("a layer")
    };
    let tracked = layer(weight.as_tensor().clone(), bias.as_tensor().clone());
    let y = conv_stack(&x, &[tracked]).expect("forward");
    assert_eq!(y.dims(), [n, k, oh, ow], "{case}");
    let error = relative_error(&y, &expected.y);
    assert!(error <= TOLERANCE, "{case}: error of y is {error:.1e}");

    // The result without a graph must be bit-identical.
    let frozen = layer(weight.as_tensor().detach(), bias.as_tensor().detach());
    let untracked = conv_stack(&x.as_tensor().detach(), &[frozen]).expect("forward");
    let values = |t: &Tensor| {
        t.flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32")
    };
    assert_eq!(
        values(&y),
        values(&untracked),
        "{case}: y differs with and without a graph"
    );

    let g = Tensor::from_vec(g, (n, k, oh, ow), &CPU).expect("a gradient");
    let gradients = (y * g)
        .and_then(|y| y.sum_all())
        .and_then(|y| y.backward())
        .expect("backward");
    for (name, var, expected) in [
        ("x", &x, expected.x),
        ("weight", &weight, expected.weight),
        ("bias", &bias, expected.bias),
    ] {
        let error = relative_error(gradients.get(var).expect("a gradient"), &expected);
        assert!(
            error <= TOLERANCE,
            "{case}: error of d{name} is {error:.1e}"
        );
    }
}

/// Shapes to test.
///
/// ReLU and max pool compare values. If two sums differ by less than the rounding error, f32 and
/// f64 can select different elements. This does not occur for these shapes and seeds.
fn shapes() -> Vec<Naive> {
    let mut rng = ChaCha8Rng::seed_from_u64(1234);
    let mut shapes = Vec::new();
    for side in 1..=17 {
        for pool in [false, true] {
            if side >= 2 || !pool {
                shapes.push(Naive {
                    n: 1,
                    c: 1 + below(&mut rng, 20),
                    k: 1 + below(&mut rng, 40),
                    h: side,
                    w: side,
                    pool,
                });
            }
        }
    }
    for n in [1, 33] {
        for (c, k) in [(3, 16), (16, 16), (17, 33), (5, 1)] {
            for pool in [false, true] {
                shapes.push(Naive {
                    n,
                    c,
                    k,
                    h: 5,
                    w: 6,
                    pool,
                });
            }
        }
    }
    shapes.push(Naive {
        n: 2,
        c: 160,
        k: 200,
        h: 9,
        w: 10,
        pool: false,
    });
    shapes.push(Naive {
        n: 3,
        c: 192,
        k: 176,
        h: 6,
        w: 6,
        pool: true,
    });
    while shapes.len() < 210 {
        shapes.push(Naive {
            n: 1 + below(&mut rng, 3),
            c: 1 + below(&mut rng, 48),
            k: 1 + below(&mut rng, 70),
            h: 2 + below(&mut rng, 16),
            w: 2 + below(&mut rng, 16),
            pool: below(&mut rng, 2) == 0,
        });
    }
    shapes
}

#[test]
fn every_instruction_set_matches_the_naive_convolution() {
    let shapes = shapes();
    assert!(shapes.len() >= 200);
    for isa in Isa::available() {
        shapes
            .par_iter()
            .enumerate()
            .for_each(|(seed, naive)| check(isa, naive, seed as u64));
    }
}

#[test]
fn a_stack_equals_its_layers_run_one_by_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut layers = Vec::new();
    for (c, k, pool) in [
        (3, 20, false),
        (20, 24, true),
        (24, 40, false),
        (40, 33, true),
    ] {
        let weight = Tensor::from_vec(random(&mut rng, k * c * 9), (k, c, 3, 3), &CPU);
        let bias = Tensor::from_vec(random(&mut rng, k), k, &CPU);
        layers.push(ConvLayer::new(weight.expect("w"), bias.expect("b"), pool).expect("a layer"));
    }
    let x = Tensor::from_vec(random(&mut rng, 11 * 3 * 45 * 38), (11, 3, 45, 38), &CPU).expect("x");
    let all = conv_stack(&x, &layers).expect("forward");
    let one_by_one = layers.iter().fold(x, |x, layer| {
        conv_stack(&x, std::slice::from_ref(layer)).expect("forward")
    });
    let values = |t: &Tensor| {
        t.flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32")
    };
    assert_eq!(all.dims(), [11, 33, 11, 9]);
    assert_eq!(values(&all), values(&one_by_one));
}

#[test]
fn forward_pass_does_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(6);
            let weight =
                Tensor::from_vec(random(&mut rng, 96 * 64 * 9), (96, 64, 3, 3), &CPU).expect("w");
            let bias = Tensor::from_vec(random(&mut rng, 96), 96, &CPU).expect("b");
            let x =
                Tensor::from_vec(random(&mut rng, 64 * 30 * 30), (1, 64, 30, 30), &CPU).expect("x");
            let layer = ConvLayer::new(weight, bias, true).expect("a layer");
            let y = conv_stack(&x, &[layer]).expect("forward");
            y.flatten_all()
                .and_then(|y| y.to_vec1::<f32>())
                .expect("f32")
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn nan_propagates_through_convolution_and_relu() {
    for isa in Isa::available() {
        for (at, pool) in [(0, false), (17, true), (80, true)] {
            let mut x = vec![0.5f32; 2 * 81];
            x[at] = f32::NAN;
            let x = Tensor::from_vec(x, (1, 2, 9, 9), &CPU).expect("x");
            let weight = Tensor::from_vec(vec![-1f32; 3 * 2 * 9], (3, 2, 3, 3), &CPU).expect("w");
            let bias = Tensor::zeros(3, candle_core::DType::F32, &CPU).expect("b");
            let layer = ConvLayer::with_isa(weight, bias, pool, isa).expect("a layer");
            let y = conv_stack(&x, &[layer]).expect("forward");
            let y: Vec<f32> = y.flatten_all().and_then(|y| y.to_vec1()).expect("f32");
            // The pool of a 9x9 image drops the last row and column, which contain output 80, but
            // neighboring outputs depend on pixel 80.
            assert!(y.iter().any(|y| y.is_nan()), "{isa:?} at={at} pool={pool}");
        }
    }
    let x = Tensor::new(&[f32::NAN, -1.0, 2.0], &CPU).expect("x");
    let y: Vec<f32> = relu(&x).and_then(|y| y.to_vec1()).expect("f32");
    assert!(y[0].is_nan() && y[1..] == [0.0, 2.0]);
}

#[test]
fn gradients_pass_through_a_relu_at_nan_as_in_pytorch() {
    let x = variable(vec![f32::NAN, -1.0, 0.0, 2.0], &[4]);
    let store = relu(&x).and_then(|y| y.sum_all()?.backward());
    let gradient = store
        .expect("backward")
        .get(&x)
        .expect("a gradient")
        .to_vec1::<f32>();
    assert_eq!(gradient.expect("f32"), [1.0, 0.0, 0.0, 1.0]);

    let x = Tensor::full(f32::NAN, (1, 1, 2, 2), &CPU).expect("x");
    let weight = Tensor::ones((1, 1, 3, 3), candle_core::DType::F32, &CPU).expect("w");
    let run = |layer: ConvLayer, on_device: bool| {
        let layers = [layer];
        if on_device {
            kernels::device::conv_stack(&x, &layers)
        } else {
            conv_stack(&x, &layers)
        }
    };
    for on_device in [false, true] {
        let bias = variable(vec![0.0], &[1]);
        let layer = ConvLayer::new(weight.clone(), bias.as_tensor().clone(), false);
        let store = run(layer.expect("a layer"), on_device).and_then(|y| y.sum_all()?.backward());
        let gradient = store
            .expect("backward")
            .get(&bias)
            .expect("a gradient")
            .to_vec1::<f32>();
        assert_eq!(gradient.expect("f32"), [4.0], "on_device: {on_device}");
    }
}

#[test]
fn max_pool_propagates_nan_from_every_position() {
    for isa in Isa::available() {
        for at in 0..64 {
            // With a graph, the pool also stores the index of the maximum.
            for tracked in [false, true] {
                let mut x = vec![1f32; 64];
                x[at] = f32::NAN;
                let x = variable(x, &[1, 1, 8, 8]);
                let x = if tracked {
                    x.as_tensor().clone()
                } else {
                    x.as_detached_tensor()
                };
                let weight = Tensor::ones((1, 1, 3, 3), candle_core::DType::F32, &CPU).expect("w");
                let bias = Tensor::zeros(1, candle_core::DType::F32, &CPU).expect("b");
                let layer = ConvLayer::with_isa(weight, bias, true, isa).expect("a layer");
                let y = conv_stack(&x, &[layer]).expect("forward");
                let y: Vec<f32> = y.flatten_all().and_then(|y| y.to_vec1()).expect("f32");
                // A window reads the pixel if one of its outputs is at most one pixel away.
                for (window, y) in y.iter().enumerate() {
                    let reads = |pixel: usize, window: usize| {
                        (2 * window..2 * window + 2).any(|output| output.abs_diff(pixel) <= 1)
                    };
                    let read = reads(at / 8, window / 4) && reads(at % 8, window % 4);
                    assert!(
                        !read || y.is_nan(),
                        "{isa:?} at={at} window={window} tracked={tracked}: {y}"
                    );
                }
            }
        }
    }
}

#[test]
fn max_pool_propagates_the_whole_gradient_at_ties() {
    for isa in Isa::available() {
        let x = variable(vec![1.0; 16], &[1, 1, 4, 4]);
        // Only the center tap is 1, so the convolution is the identity.
        let center = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0f32];
        let weight = Tensor::from_vec(center.to_vec(), (1, 1, 3, 3), &CPU).expect("w");
        let bias = Tensor::zeros(1, candle_core::DType::F32, &CPU).expect("b");
        let layer = ConvLayer::with_isa(weight, bias, true, isa).expect("a layer");
        let y = conv_stack(&x, &[layer]).expect("forward");
        let gradients = y.sum_all().and_then(|y| y.backward()).expect("backward");
        let g: Vec<f32> = gradients
            .get(&x)
            .expect("g")
            .flatten_all()
            .and_then(|g| g.to_vec1())
            .expect("f32");
        // Rounding in the transforms may break the tie, but the sum of the gradient is the same.
        let sum: f32 = g.iter().sum();
        assert!((sum - 4.0).abs() < 1e-5, "{isa:?}: gradient is {g:?}");
    }
}

#[test]
fn adaptive_avg_pool_matches_the_bins_of_pytorch() {
    for (h, w) in [(1, 1), (2, 3), (6, 7), (7, 7), (8, 8), (10, 23)] {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let values = random(&mut rng, 2 * 3 * h * w);
        let x = variable(values.clone(), &[2, 3, h, w]);
        let y = adaptive_avg_pool2d(&x, (7, 7)).expect("forward");
        let mut expected = Vec::new();
        let mut gradient = vec![0f64; values.len()];
        for plane in 0..6 {
            for bin in 0..49 {
                let range = |i: usize, size: usize| i * size / 7..((i + 1) * size).div_ceil(7);
                let cells: Vec<_> = range(bin / 7, h)
                    .flat_map(|i| range(bin % 7, w).map(move |j| plane * h * w + i * w + j))
                    .collect();
                expected.push(
                    cells.iter().map(|&at| f64::from(values[at])).sum::<f64>() / cells.len() as f64,
                );
                cells
                    .iter()
                    .for_each(|&at| gradient[at] += 1.0 / cells.len() as f64);
            }
        }
        assert!(relative_error(&y, &expected) < 1e-6, "{h}x{w}");
        let gradients = y.sum_all().and_then(|y| y.backward()).expect("backward");
        assert!(
            relative_error(gradients.get(&x).expect("g"), &gradient) < 1e-6,
            "{h}x{w}"
        );
    }
}

#[test]
fn linear_layer_and_its_gradients_match_f64() {
    for (n, input, output) in [
        (1, 1, 1),
        (1, 300, 7),
        (2, 2500, 70),
        (3, 1025, 9),
        (4, 1100, 5),
        (7, 2049, 33),
        (5, 33, 70),
        (32, 1000, 65),
        (33, 17, 3),
    ] {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let (xs, ws) = (
            random(&mut rng, n * input),
            random(&mut rng, output * input),
        );
        let (bs, gs) = (random(&mut rng, output), random(&mut rng, n * output));
        let mut y = vec![0f64; n * output];
        let (mut gx, mut gw, mut gb) = (
            vec![0f64; n * input],
            vec![0f64; output * input],
            vec![0f64; output],
        );
        for row in 0..n {
            for out in 0..output {
                let g = f64::from(gs[row * output + out]);
                y[row * output + out] = f64::from(bs[out]);
                gb[out] += g;
                for at in 0..input {
                    let (x, w) = (
                        f64::from(xs[row * input + at]),
                        f64::from(ws[out * input + at]),
                    );
                    y[row * output + out] += x * w;
                    gx[row * input + at] += g * w;
                    gw[out * input + at] += g * x;
                }
            }
        }
        let x = variable(xs, &[n, input]);
        let (w, b) = (variable(ws, &[output, input]), variable(bs, &[output]));
        let actual = linear(&x, &w, &b).expect("forward");
        assert!(relative_error(&actual, &y) <= TOLERANCE);
        let g = Tensor::from_vec(gs, (n, output), &CPU).expect("g");
        let gradients = (actual * g)
            .and_then(|y| y.sum_all())
            .and_then(|y| y.backward())
            .expect("backward");
        for (var, expected) in [(&x, gx), (&w, gw), (&b, gb)] {
            let gradient = gradients.get(var).expect("a gradient");
            assert!(gradient.is_contiguous());
            assert!(relative_error(gradient, &expected) <= TOLERANCE);
        }
    }
}

#[test]
fn linear_output_rows_do_not_depend_on_the_batch_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    for (output, input) in [(9, 1500), (4, 16), (3, 2100)] {
        let x = Tensor::from_vec(random(&mut rng, 9 * input), (9, input), &CPU).expect("x");
        let w = Tensor::from_vec(random(&mut rng, output * input), (output, input), &CPU);
        let b = Tensor::from_vec(random(&mut rng, output), output, &CPU).expect("b");
        let w = w.expect("w");
        let rows = |y: Tensor| y.to_vec2::<f32>().expect("rows");
        let all = rows(linear(&x, &w, &b).expect("nine rows"));
        for n in 1..9 {
            let some = x.narrow(0, 0, n).and_then(|x| linear(&x, &w, &b));
            assert_eq!(rows(some.expect("some rows")), all[..n], "{n} rows");
        }
    }
}

#[test]
fn kernels_work_after_release_memory() {
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let x = Tensor::from_vec(random(&mut rng, 3 * 64), (1, 3, 8, 8), &CPU).expect("x");
    let w = Tensor::from_vec(random(&mut rng, 5 * 27), (5, 3, 3, 3), &CPU).expect("w");
    let b = Tensor::from_vec(random(&mut rng, 5), 5, &CPU).expect("b");
    let layer = ConvLayer::new(w, b, true).expect("a layer");
    let run = || {
        let y = conv_stack(&x, std::slice::from_ref(&layer)).expect("forward");
        y.flatten_all()
            .and_then(|y| y.to_vec1::<f32>())
            .expect("f32")
    };
    let before = run();
    kernels::release_memory();
    assert_eq!(run(), before);
}
