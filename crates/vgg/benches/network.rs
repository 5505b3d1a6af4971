//! Benchmarks the backbone of VGG-16: the forward pass, and the forward and backward pass.
//! `examples/scaling.rs` measures how the speed depends on batch size and image size.
//!
//! ```text
//! cargo bench -p vgg --bench network
//! ```
//!
//! Before the measurement, the benchmark checks that the features of a batch are equal to those of
//! each image alone.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vgg::{Vgg, VggConfig, init};

fn images(n: usize, side: usize) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(side as u64);
    let values: Vec<f32> = (0..n * 3 * side * side)
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu).expect("the length matches")
}

/// Builds VGG-16 with a small classifier, which the benchmark does not run.
fn network(trainable: bool) -> Vgg {
    let config = VggConfig {
        hidden: 8,
        ..VggConfig::vgg16(2)
    };
    let mut tensors = init::from_scratch(&config, 1, &Device::Cpu).expect("random weights");
    if trainable {
        for tensor in tensors.values_mut() {
            let var = candle_core::Var::from_tensor(tensor).expect("a variable");
            *tensor = var.into_inner();
        }
    }
    let tensors = tensors.into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Vgg::new(&config, vb).expect("a valid configuration")
}

fn check(vgg: &Vgg) {
    let x = images(3, 224);
    let batched = vgg.features(&x).expect("a valid batch");
    for n in 0..3 {
        let image = x.narrow(0, n, 1).expect("three images");
        let single = vgg.features(&image).expect("a valid image");
        let difference = (batched.narrow(0, n, 1).expect("three images") - single)
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
        assert_eq!(difference.expect("equal shapes"), 0.0);
    }
}

fn network_benches(criterion: &mut Criterion) {
    let frozen = network(false);
    check(&frozen);
    let training = network(true);
    for n in [1, 8, 32] {
        let x = images(n, 224);
        let mut group = criterion.benchmark_group("convolutions of VGG-16");
        group
            .sample_size(10)
            .throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::new("forward", n), &x, |bencher, x| {
            bencher.iter(|| frozen.features(black_box(x)).expect("a valid batch"));
        });
        let id = BenchmarkId::new("forward and backward", n);
        group.bench_with_input(id, &x, |bencher, x| {
            bencher.iter(|| {
                let y = training.features(black_box(x)).expect("a valid batch");
                y.backward().expect("gradients")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, network_benches);
criterion_main!(benches);
