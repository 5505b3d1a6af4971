//! Each convolution of VGG-16 by itself: forward, and forward with all gradients; on each instruction set.
//!
//! ```text
//! cargo bench -p vgg --bench layers                     # the best instruction set, eight pictures
//! cargo bench -p vgg --bench layers -- 'forward/.*avx2'  # a part of it, by name
//! ```
//!
//! The throughput is in operations of the direct convolution (two for each multiplication), which Winograd's
//! algorithm does not all do. Each layer's output and gradients are compared with candle's own on one picture
//! before they are timed; candle's max pool has another gradient at ties, which random numbers do not have.

use std::hint::black_box;

use candle_core::{D, Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vgg::VggConfig;
use vgg::kernels::{ConvLayer, Isa, conv_stack};

/// Pictures of a batch.
const BATCH: usize = 8;

struct Layer {
    name: String,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    pool: bool,
}

impl Layer {
    /// Those of VGG-16 at 224x224 that differ in shape.
    fn all() -> Result<Vec<Self>> {
        let mut layers = Vec::new();
        let mut side = 224;
        for conv in VggConfig::vgg16(2)
            .convolutions()
            .expect("a table of our own")
        {
            let (c, k) = (conv.input, conv.output);
            let pool = if conv.pool { "+pool" } else { "" };
            let name = format!("{c}-{k}{pool}@{side}");
            if layers.iter().all(|layer: &Self| layer.name != name) {
                let mut rng = ChaCha8Rng::seed_from_u64(layers.len() as u64);
                let mut random = |shape: &[usize], scale: f32| {
                    let values = (0..shape.iter().product())
                        .map(|_| rng.random_range(-scale..scale))
                        .collect();
                    Tensor::from_vec(values, shape, &Device::Cpu)
                };
                layers.push(Self {
                    name,
                    x: random(&[BATCH, c, side, side], 1.0)?,
                    weight: random(&[k, c, 3, 3], (2.0 / (9 * c) as f32).sqrt())?,
                    bias: random(&[k], 0.1)?,
                    pool: conv.pool,
                });
            }
            if conv.pool {
                side /= 2;
            }
        }
        Ok(layers)
    }

    /// Operations of the direct convolution of a batch.
    fn operations(&self) -> u64 {
        let (n, c, h, w) = self.x.dims4().expect("four dimensions");
        let k = self.bias.elem_count();
        (2 * n * c * h * w * k * 9) as u64
    }

    fn ours(&self, isa: Isa, x: &Tensor) -> Result<Tensor> {
        let layer = ConvLayer::with_isa(self.weight.clone(), self.bias.clone(), self.pool, isa)?;
        conv_stack(x, &[layer])
    }

    fn candle(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.reshape((1, (), 1, 1))?;
        let y = x
            .conv2d(&self.weight, 1, 1, 1, 1)?
            .broadcast_add(&bias)?
            .relu()?;
        if self.pool { y.max_pool2d(2) } else { Ok(y) }
    }

    /// Output and gradients of x, weight and bias, of one picture.
    fn results(&self, run: impl Fn(&Self, &Tensor) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let tracked: Vec<Var> = [&self.x.narrow(0, 0, 1)?, &self.weight, &self.bias]
            .into_iter()
            .map(Var::from_tensor)
            .collect::<Result<_>>()?;
        let layer = Self {
            name: self.name.clone(),
            x: tracked[0].as_tensor().clone(),
            weight: tracked[1].as_tensor().clone(),
            bias: tracked[2].as_tensor().clone(),
            pool: self.pool,
        };
        let y = run(&layer, &layer.x)?;
        let mut gradients = y.sqr()?.sum_all()?.backward()?;
        let mut results = vec![y];
        for var in &tracked {
            results.push(
                gradients
                    .remove(var)
                    .expect("a gradient of what is tracked"),
            );
        }
        Ok(results)
    }

    /// What is timed is right: within 2e-5 of the largest value, as two sums in single precision can be.
    fn check(&self, isa: Isa) -> Result<()> {
        let ours = self.results(|layer, x| layer.ours(isa, x))?;
        let theirs = self.results(|layer, x| layer.candle(x))?;
        let names = ["y", "x gradient", "weight gradient", "bias gradient"];
        for (name, (ours, theirs)) in names.into_iter().zip(ours.iter().zip(&theirs)) {
            // candle's gradient of a pooled input is spread otherwise where a window's values are equal (zeros).
            if self.pool && name != "y" {
                continue;
            }
            let largest = |t: Tensor| t.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar::<f32>();
            let error = largest((ours - theirs)?)? / largest(theirs.clone())?;
            assert!(error < 2e-5, "{} {name}: {error}", self.name);
        }
        Ok(())
    }
}

fn layers(criterion: &mut Criterion) {
    let layers = Layer::all().expect("random layers");
    for isa in Isa::available().into_iter().rev() {
        for layer in &layers {
            layer.check(isa).expect("the operations run");
        }
        let mut group = criterion.benchmark_group(format!("forward/{}", isa.name()));
        group.sample_size(10);
        for layer in &layers {
            group.throughput(Throughput::Elements(layer.operations()));
            let built =
                ConvLayer::with_isa(layer.weight.clone(), layer.bias.clone(), layer.pool, isa)
                    .expect("an available isa");
            let built = [built];
            group.bench_function(&layer.name, |bencher| {
                bencher.iter(|| conv_stack(black_box(&layer.x), &built).expect("it ran before"));
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group(format!("forward+backward/{}", isa.name()));
        group.sample_size(10);
        for layer in &layers {
            // The forward pass, and as much again for the gradient of x and of the weight.
            group.throughput(Throughput::Elements(3 * layer.operations()));
            let tracked = [&layer.x, &layer.weight, &layer.bias]
                .map(|tensor| Var::from_tensor(tensor).expect("it fits in memory"));
            let [x, weight, bias] = tracked.each_ref().map(|var| var.as_tensor().clone());
            let built =
                [ConvLayer::with_isa(weight, bias, layer.pool, isa).expect("an available isa")];
            group.bench_function(&layer.name, |bencher| {
                bencher.iter(|| {
                    let y = conv_stack(&x, &built).expect("it ran before");
                    y.backward().expect("it ran before")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
