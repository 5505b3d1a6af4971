//! The convolutions of VGG-16 together, frozen and training: how their cost grows with the batch and the input.
//!
//! ```text
//! cargo bench -p vgg --bench network
//! ```
//!
//! Before anything is timed, the features of a batch are compared with those of its pictures one by one.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vgg::{Vgg, VggConfig, init};

const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const SIZES: [usize; 8] = [64, 96, 128, 160, 224, 320, 448, 512];

fn pictures(n: usize, side: usize) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(side as u64);
    let values: Vec<f32> = (0..n * 3 * side * side)
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu).expect("as many values")
}

/// VGG-16 with a small classifier, which takes no part here.
fn network(trains: bool) -> Vgg {
    let config = VggConfig {
        hidden: 8,
        ..VggConfig::vgg16(2)
    };
    let mut tensors = init::from_scratch(&config, 1, &Device::Cpu).expect("random weights");
    if trains {
        for tensor in tensors.values_mut() {
            let var = candle_core::Var::from_tensor(tensor).expect("it fits in memory");
            *tensor = var.into_inner();
        }
    }
    let tensors = tensors.into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Vgg::new(&config, vb).expect("a table of our own")
}

fn check(vgg: &Vgg) {
    let x = pictures(3, 224);
    let together = vgg.features(&x).expect("pictures of the right shape");
    for n in 0..3 {
        let picture = x.narrow(0, n, 1).expect("one of three");
        let alone = vgg.features(&picture).expect("a picture");
        let difference = (together.narrow(0, n, 1).expect("one of three") - alone)
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
        assert_eq!(difference.expect("one shape"), 0.0);
    }
}

fn network_benches(criterion: &mut Criterion) {
    let frozen = network(false);
    check(&frozen);
    let mut group = criterion.benchmark_group("frozen forward by batch");
    group.sample_size(10);
    for n in BATCHES {
        let x = pictures(n, 224);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::from_parameter(n), &x, |bencher, x| {
            bencher.iter(|| frozen.features(black_box(x)).expect("it ran before"));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("frozen forward by size");
    group.sample_size(10);
    for side in SIZES {
        let x = pictures(8, side);
        group.throughput(Throughput::Elements(8));
        group.bench_with_input(BenchmarkId::from_parameter(side), &x, |bencher, x| {
            bencher.iter(|| frozen.features(black_box(x)).expect("it ran before"));
        });
    }
    group.finish();

    let training = network(true);
    let mut group = criterion.benchmark_group("forward and backward by batch");
    group.sample_size(10);
    for n in [1, 8, 32] {
        let x = pictures(n, 224);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::from_parameter(n), &x, |bencher, x| {
            bencher.iter(|| {
                let y = training.features(black_box(x)).expect("it ran before");
                y.backward().expect("it ran before")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, network_benches);
criterion_main!(benches);
