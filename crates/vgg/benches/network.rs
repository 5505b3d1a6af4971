//! The convolutions of VGG-16 together, frozen and training. `examples/growth.rs` shows how their cost grows.
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
    let training = network(true);
    for n in [1, 8, 32] {
        let x = pictures(n, 224);
        let mut group = criterion.benchmark_group("convolutions of VGG-16");
        group
            .sample_size(10)
            .throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::new("forward", n), &x, |bencher, x| {
            bencher.iter(|| frozen.features(black_box(x)).expect("it ran before"));
        });
        let id = BenchmarkId::new("forward and backward", n);
        group.bench_with_input(id, &x, |bencher, x| {
            bencher.iter(|| {
                let y = training.features(black_box(x)).expect("it ran before");
                y.backward().expect("it ran before")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, network_benches);
criterion_main!(benches);
