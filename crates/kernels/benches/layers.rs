//! Benchmarks each distinct convolution of VGG-16 with each available instruction set: the forward
//! pass, and the forward and backward pass with all gradients.
//!
//! ```text
//! cargo bench -p kernels --bench layers                     # all instruction sets
//! cargo bench -p kernels --bench layers -- 'forward/avx2'    # filtered by name
//! ```
//!
//! The batch has eight images. The throughput counts the operations of the direct convolution, two
//! per multiply-add. Winograd's algorithm executes fewer. Before the timing, the output and the
//! gradients of each layer are compared with candle's on one image. The gradients of pooled layers
//! are not compared, because candle's max pool scales and distributes its gradient differently.

use std::hint::black_box;

use candle_core::{D, Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::{ConvLayer, Isa, conv_stack};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Images per batch.
const BATCH: usize = 8;

/// Input channels, output channels, pool, and height and width in pixels of each distinct layer.
const VGG16: [(usize, usize, bool, usize); 12] = [
    (3, 64, false, 224),
    (64, 64, true, 224),
    (64, 128, false, 112),
    (128, 128, true, 112),
    (128, 256, false, 56),
    (256, 256, false, 56),
    (256, 256, true, 56),
    (256, 512, false, 28),
    (512, 512, false, 28),
    (512, 512, true, 28),
    (512, 512, false, 14),
    (512, 512, true, 14),
];

struct Layer {
    name: String,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    pool: bool,
}

impl Layer {
    /// One layer with random values for each distinct convolution of VGG-16 at 224x224.
    fn all() -> Result<Vec<Self>> {
        let mut layers = Vec::new();
        for (c, k, pool, side) in VGG16 {
            let mut rng = ChaCha8Rng::seed_from_u64(layers.len() as u64);
            let mut random = |shape: &[usize], scale: f32| {
                let values = (0..shape.iter().product())
                    .map(|_| rng.random_range(-scale..scale))
                    .collect();
                Tensor::from_vec(values, shape, &Device::Cpu)
            };
            layers.push(Self {
                name: format!("{c}-{k}{}@{side}", if pool { "+pool" } else { "" }),
                x: random(&[BATCH, c, side, side], 1.0)?,
                weight: random(&[k, c, 3, 3], (2.0 / (9 * c) as f32).sqrt())?,
                bias: random(&[k], 0.1)?,
                pool,
            });
        }
        Ok(layers)
    }

    /// Number of floating-point operations in the direct convolution of one batch.
    fn operations(&self) -> u64 {
        let (n, c, h, w) = self.x.dims4().expect("four dimensions");
        let k = self.bias.elem_count();
        (2 * n * c * h * w * k * 9) as u64
    }

    fn kernels(&self, isa: Isa, x: &Tensor) -> Result<Tensor> {
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

    /// Returns the output y for one image, and the gradients of Σ y² with respect to x, weight and
    /// bias.
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
            results.push(gradients.remove(var).expect("the tensor is tracked"));
        }
        Ok(results)
    }

    /// Checks that the results match candle's. The tolerance is 2e-5 of the largest value, because
    /// the kernels and candle round their f32 sums differently.
    fn check(&self, isa: Isa) -> Result<()> {
        let kernels = self.results(|layer, x| layer.kernels(isa, x))?;
        let candle = self.results(|layer, x| layer.candle(x))?;
        let names = ["y", "x gradient", "weight gradient", "bias gradient"];
        for (name, (actual, expected)) in names.into_iter().zip(kernels.iter().zip(&candle)) {
            // candle's max pool gives each of m equal maxima m quarters of the gradient.
            if self.pool && name != "y" {
                continue;
            }
            let largest = |t: Tensor| t.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar::<f32>();
            let error = largest((actual - expected)?)? / largest(expected.clone())?;
            assert!(
                error < 2e-5,
                "{}: error of {name} is {error:.1e}",
                self.name
            );
        }
        Ok(())
    }
}

fn layers(criterion: &mut Criterion) {
    let layers = Layer::all().expect("random layers");
    for isa in Isa::available().into_iter().rev() {
        for layer in &layers {
            layer.check(isa).expect("the layer matches candle");
        }
        let mut group = criterion.benchmark_group(format!("forward/{}", isa.name()));
        group.sample_size(10);
        for layer in &layers {
            group.throughput(Throughput::Elements(layer.operations()));
            let built =
                ConvLayer::with_isa(layer.weight.clone(), layer.bias.clone(), layer.pool, isa)
                    .expect("an available instruction set");
            let built = [built];
            group.bench_function(&layer.name, |bencher| {
                bencher.iter(|| conv_stack(black_box(&layer.x), &built).expect("the check ran it"));
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group(format!("forward+backward/{}", isa.name()));
        group.sample_size(10);
        for layer in &layers {
            // The gradients of x and weight have as many operations as the forward pass each.
            group.throughput(Throughput::Elements(3 * layer.operations()));
            let tracked = [&layer.x, &layer.weight, &layer.bias]
                .map(|tensor| Var::from_tensor(tensor).expect("a variable"));
            let [x, weight, bias] = tracked.each_ref().map(|var| var.as_tensor().clone());
            let built = [ConvLayer::with_isa(weight, bias, layer.pool, isa)
                .expect("an available instruction set")];
            group.bench_function(&layer.name, |bencher| {
                bencher.iter(|| {
                    let y = conv_stack(&x, &built).expect("the check ran it");
                    y.backward().expect("the check ran it")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
