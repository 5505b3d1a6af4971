//! Pretrains the slim VGG-16 for the built-in sample on drawings of other classes.
//!
//! ```sh
//! cargo run --release -p cli --example pretrain_sample            # writes data/sample_backbone.safetensors
//! cargo run --release -p cli --example pretrain_sample -- FILE
//! ```
//!
//! Thirteen convolutions without batch normalization hardly learn from random weights. Three
//! measures help. None of them changes the architecture of the final network.
//!
//! 1. A shallow network with one convolution per block trains first and initializes the deep one.
//!    Simonyan and Zisserman initialized their deeper networks in the same way with their net A
//!    (2014, section 3.1). The added convolutions start near the identity, which ReLU preserves, so
//!    the deep network starts with the function of the shallow one (T. Chen, I. Goodfellow, J.
//!    Shlens, "Net2Net", 2016).
//! 2. The random weights of the shallow network are scaled and shifted so that each channel has
//!    mean 0 and standard deviation 1 over a batch before its ReLU (T. Salimans, D. Kingma, "Weight
//!    Normalization", 2016, section 3).
//! 3. There is no dropout, because the network is small and random crops augment the images.
//!
//! The result depends only on the seed, the number of threads and the instruction set of the CPU.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::{D, Device, Tensor};
use dataset::transform::{Normalize, Plan, Region, Resampler, Transform};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sample::{PRETRAINING, Split};
use trainer::{
    BoxError, Data, Event, FitConfig, Flow, Group, Mode, Model, Params, Phase, Schedule, SgdConfig,
    Stage,
};
use vgg::config::Unit;
use vgg::{Metadata, Vgg, VggConfig};

/// Seed for the drawings, the order of batches, the crops and the initial weights.
const SEED: u64 = 1234;
/// Number of training images per class.
const TRAIN: u64 = 500;
/// Number of validation images per class.
const VAL: u64 = 40;

/// Output channels of the convolutions in each block.
const WIDTHS: [usize; 5] = [16, 24, 48, 96, 96];
/// Width of the classifier's hidden layers.
const HIDDEN: usize = 256;
/// Height and width of the adaptive average pool's output.
const AVGPOOL: usize = 2;
/// Height and width of input images, in pixels.
const INPUT: u32 = 64;

/// Convolutions in each block of the shallow network.
const SHALLOW: [usize; 5] = [1, 1, 1, 1, 1];
/// Convolutions in each block of VGG-16.
const DEEP: [usize; 5] = [2, 2, 3, 3, 3];

const BATCH: usize = 32;
const MOMENTUM: f64 = 0.9;
const WEIGHT_DECAY: f64 = 1e-4;
/// Training epochs and peak learning rate of the shallow network. Both networks use one epoch of
/// warmup and cosine decay.
const SHALLOW_RUN: (u64, f64) = (20, 0.02);
/// Training epochs and peak learning rate of the deep network.
const DEEP_RUN: (u64, f64) = (24, 0.004);

/// Minimum area of a training crop, as a fraction of the image.
const MIN_AREA: f64 = 0.35;

/// Factor by which `scale_features` multiplies the last hidden layer's output after training.
const GAIN: f64 = 4.0;

/// Scale of the random weights by which an added convolution differs from the identity.
const NOISE: f64 = 0.2;

fn main() -> anyhow::Result<()> {
    let out = output_path()?;
    let started = Instant::now();
    let train = Drawings::draw(Split::Train, TRAIN);
    let val = Drawings::draw(Split::Val, VAL);
    println!(
        "{} classes, {} train and {} val images, drawn in {:.0} s",
        PRETRAINING.len(),
        train.images.len(),
        val.images.len(),
        started.elapsed().as_secs_f64()
    );
    let data = Data {
        train: &train,
        val: &val,
    };

    let shallow = network(SHALLOW);
    let tensors = standardized_weights(&shallow, &train)?;
    println!("\nshallow network:");
    let tensors = fit(&shallow, tensors, data, SHALLOW_RUN)?;

    let deep = network(DEEP);
    let tensors = deepen(&shallow, &tensors, &deep)?;
    println!("\ndeep network:");
    let tensors = scale_features(fit(&deep, tensors, data, DEEP_RUN)?)?;

    let normalize = Normalize::IMAGENET;
    let metadata = Metadata {
        config: deep,
        classes: PRETRAINING
            .iter()
            .map(|class| class.name().to_string())
            .collect(),
        mean: normalize.mean,
        std: normalize.std,
        temperature: 1.0,
    };
    vgg::save(&out, &tensors, &metadata)?;
    let bytes = std::fs::metadata(&out)?.len();
    println!(
        "\nwrote {} ({:.2} MB) in {:.1} minutes",
        out.display(),
        bytes as f64 / 1e6,
        started.elapsed().as_secs_f64() / 60.0
    );
    Ok(())
}

/// The path to write the weights to.
fn output_path() -> anyhow::Result<PathBuf> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [] => Ok(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample_backbone.safetensors")
        ),
        [file] if !file.to_string_lossy().starts_with('-') => Ok(file.into()),
        _ => bail!("usage: pretrain_sample [FILE]"),
    }
}

/// The configuration of a network with the given number of convolutions per block.
fn network(blocks: [usize; 5]) -> VggConfig {
    let classes = PRETRAINING.len();
    let slim = VggConfig::slim_vgg16(WIDTHS, HIDDEN, AVGPOOL, INPUT as usize, classes);
    if blocks == DEEP {
        return slim;
    }
    let mut features = Vec::new();
    for (width, convolutions) in WIDTHS.into_iter().zip(blocks) {
        features.extend(std::iter::repeat_n(Unit::Conv(width), convolutions));
        features.push(Unit::Pool);
    }
    VggConfig {
        architecture: "slim_vgg8".to_string(),
        features,
        ..slim
    }
}

/// Random weights. Those of all layers but the last are scaled and shifted so that each channel has
/// mean 0 and standard deviation 1 before its ReLU, over a batch of 256 drawings.
fn standardized_weights(
    config: &VggConfig,
    drawings: &Drawings,
) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let mut tensors = vgg::init::from_scratch(config, SEED, &Device::Cpu)?;
    let indices: Vec<_> = (0..256).map(|i| i * 61 % drawings.images.len()).collect();
    let mut x = drawings
        .batch(&indices, 0)
        .map_err(anyhow::Error::from_boxed)?
        .inputs;
    for conv in config.convolutions()? {
        let layer = format!("features.{}", conv.index);
        let z = x.conv2d(&tensors[&format!("{layer}.weight")], 1, 1, 1, 1)?;
        // Shape (pixels, channels).
        let flat = z.permute((0, 2, 3, 1))?.flatten(0, 2)?;
        let (mean, deviation) = standardize(&mut tensors, &layer, &flat)?;
        let shape = (1, conv.output, 1, 1);
        x = z
            .broadcast_sub(&mean.reshape(shape)?)?
            .broadcast_div(&deviation.reshape(shape)?)?
            .relu()?;
        if conv.pool {
            x = x.max_pool2d(2)?;
        }
    }
    x = vgg::kernels::adaptive_avg_pool2d(&x, (config.avgpool, config.avgpool))?.flatten_from(1)?;
    for layer in ["classifier.0", "classifier.3"] {
        let z = x.matmul(&tensors[&format!("{layer}.weight")].t()?)?;
        let (mean, deviation) = standardize(&mut tensors, layer, &z)?;
        x = z.broadcast_sub(&mean)?.broadcast_div(&deviation)?.relu()?;
    }
    Ok(tensors)
}

/// Changes the weight and the bias of `layer`, whose output is `z`, of shape (n, channels), so that
/// each channel has mean 0 and standard deviation 1. The bias must be 0. Returns the mean and standard
/// deviation of the channels of `z`, of shape (channels).
fn standardize(
    tensors: &mut BTreeMap<String, Tensor>,
    layer: &str,
    z: &Tensor,
) -> candle_core::Result<(Tensor, Tensor)> {
    let mean = z.mean(0)?;
    let deviation = (z.broadcast_sub(&mean)?.sqr()?.mean(0)? + 1e-8)?.sqrt()?;
    let name = format!("{layer}.weight");
    let mut column = vec![1; tensors[&name].rank()];
    column[0] = mean.dim(D::Minus1)?;
    let weight = tensors[&name].broadcast_div(&deviation.reshape(column)?)?;
    tensors.insert(name, weight);
    tensors.insert(format!("{layer}.bias"), (mean.div(&deviation)? * -1.0)?);
    Ok((mean, deviation))
}

/// Weights with which `deep` computes nearly the same function as `shallow` with `weights`.
fn deepen(
    shallow: &VggConfig,
    weights: &BTreeMap<String, Tensor>,
    deep: &VggConfig,
) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let mut tensors = vgg::init::from_scratch(deep, SEED, &Device::Cpu)?;
    let mut shallow_convolutions = shallow.convolutions()?.into_iter();
    let mut starts_block = true;
    for conv in deep.convolutions()? {
        let layer = format!("features.{}", conv.index);
        if starts_block {
            let from = shallow_convolutions
                .next()
                .context("the shallow network has fewer blocks")?;
            for part in ["weight", "bias"] {
                let tensor = weights[&format!("features.{}.{part}", from.index)].clone();
                tensors.insert(format!("{layer}.{part}"), tensor);
            }
        } else {
            let name = format!("{layer}.weight");
            let mut center = vec![0f32; 9];
            center[4] = 1.0;
            let center = Tensor::from_vec(center, (1, 1, 3, 3), &Device::Cpu)?;
            let unit = Tensor::eye(conv.output, candle_core::DType::F32, &Device::Cpu)?
                .reshape((conv.output, conv.output, 1, 1))?;
            let noisy = (unit.broadcast_mul(&center)? + (&tensors[&name] * NOISE)?)?;
            tensors.insert(name, noisy);
        }
        starts_block = conv.pool;
    }
    for (name, tensor) in weights.range("classifier".to_string()..) {
        if name.starts_with("classifier.") {
            tensors.insert(name.clone(), tensor.clone());
        }
    }
    Ok(tensors)
}

/// Multiplies the features before the last layer by [`GAIN`], without changing the output of the
/// network. A new head then needs fewer steps at the same learning rate.
fn scale_features(
    mut tensors: BTreeMap<String, Tensor>,
) -> anyhow::Result<BTreeMap<String, Tensor>> {
    // ReLU commutes with a positive factor, and multiplying by a power of two is exact.
    for (name, factor) in [
        ("classifier.3.weight", GAIN),
        ("classifier.3.bias", GAIN),
        ("classifier.6.weight", 1.0 / GAIN),
    ] {
        let scaled = (&tensors[name] * factor)?;
        tensors.insert(name.to_string(), scaled);
    }
    Ok(tensors)
}

/// Trains all layers and returns the weights of the best epoch.
fn fit(
    config: &VggConfig,
    tensors: BTreeMap<String, Tensor>,
    data: Data<'_>,
    (epochs, lr): (u64, f64),
) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let params = Params::from_tensors(tensors, &Device::Cpu)?;
    params.set_trainable(&["features", "classifier"])?;
    let sgd = SgdConfig {
        momentum: MOMENTUM,
        weight_decay: WEIGHT_DECAY,
        ..SgdConfig::default()
    };
    let mut stage = Stage::new(&params, sgd, vec![Group::everything(lr)])?;
    let fit = FitConfig {
        epochs,
        seed: SEED,
        schedule: Schedule::Cosine { epochs, warmup: 1 },
        ..FitConfig::default()
    };
    let build = |vb| Vgg::new(config, vb).map(|network| WithoutDropout(network.with_grad_sink()));
    trainer::fit(&params, build, data, &fit, &mut stage, &mut |event, _| {
        report(event)
    })?;
    Ok(params.tensors())
}

fn report(event: &Event) -> Flow {
    if let Event::PhaseEnd {
        phase,
        epoch,
        loss,
        accuracy,
        seconds,
        samples_per_second,
    } = event
    {
        let percent = 100.0 * accuracy;
        match phase {
            Phase::Train => print!(
                "epoch {epoch:>2}: train loss {loss:.3}, accuracy {percent:4.1} % ({seconds:.0} s, {samples_per_second:.0} images/s); "
            ),
            Phase::Val => println!("val loss {loss:.3}, accuracy {percent:4.1} %"),
        }
    }
    Flow::Continue
}

/// A network that runs in evaluation mode even during training, to disable dropout.
struct WithoutDropout(Vgg);

impl Model for WithoutDropout {
    fn layer_names(&self) -> &[String] {
        self.0.layer_names()
    }

    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        _: Mode,
    ) -> candle_core::Result<Tensor> {
        Model::forward_layers(&self.0, x, layers, Mode::Eval)
    }

    fn take_gradient(&self, parameter: &Tensor) -> Option<trainer::Gradient> {
        Model::take_gradient(&self.0, parameter)
    }
}

/// All drawings of a split, in memory.
struct Drawings {
    split: Split,
    /// Image `i` has class `i` modulo the number of classes.
    images: Vec<RgbImage>,
}

impl Drawings {
    fn draw(split: Split, count: u64) -> Self {
        let classes = PRETRAINING.len();
        let draw = |i: usize| PRETRAINING[i % classes].image(SEED, split, (i / classes) as u64);
        let images = (0..classes * count as usize)
            .into_par_iter()
            .map(draw)
            .collect();
        Self { split, images }
    }

    /// The batch of images with the given `indices`. Train images are randomly cropped and flipped for
    /// `epoch`; val images are resized and center-cropped.
    fn batch(&self, indices: &[usize], epoch: u64) -> Result<trainer::Batch, BoxError> {
        let augment = |&index: &usize| -> Result<Vec<f32>, BoxError> {
            let image = &self.images[index];
            let (width, height) = image.dimensions();
            let plan = match self.split {
                Split::Train => crop(width, height, &mut keyed(b"crop", epoch, index as u64)),
                Split::Val => Transform::eval(INPUT).eval_plan(width, height),
            };
            let mut values = Vec::new();
            Normalize::IMAGENET.append(Resampler::default().apply(image, &plan)?, &mut values);
            Ok(values)
        };
        let parts: Vec<_> = indices.par_iter().map(augment).collect::<Result<_, _>>()?;
        let side = INPUT as usize;
        let labels = indices
            .iter()
            .map(|index| (index % PRETRAINING.len()) as u32);
        Ok(trainer::Batch {
            inputs: Tensor::from_vec(parts.concat(), (indices.len(), 3, side, side), &Device::Cpu)?,
            targets: Tensor::from_vec(labels.collect(), indices.len(), &Device::Cpu)?,
            indices: indices.to_vec(),
        })
    }
}

impl trainer::DataLoader for Drawings {
    fn samples(&self) -> usize {
        self.images.len()
    }

    fn epoch(&self, epoch: u64, first: usize) -> trainer::Batches<'_> {
        let mut order: Vec<_> = (0..self.images.len()).collect();
        if self.split == Split::Train {
            let mut rng = keyed(b"turn", epoch, 0);
            order.sort_by_cached_key(|_| rng.next_u64());
        }
        let batches: Vec<_> = order.chunks(BATCH).map(<[_]>::to_vec).collect();
        Box::new(
            batches
                .into_iter()
                .skip(first)
                .map(move |indices| self.batch(&indices, epoch)),
        )
    }
}

/// A random crop with an aspect ratio from 3:4 to 4:3, flipped with probability 1/2. Its minimum area
/// is [`MIN_AREA`], larger than the 8 % of the usual ImageNet recipe.
fn crop(width: u32, height: u32, rng: &mut ChaCha8Rng) -> Plan {
    let mut unit = || f64::from(rng.next_u32()) / 2f64.powi(32);
    let area = (MIN_AREA + (1.0 - MIN_AREA) * unit()) * f64::from(width * height);
    let ratio = ((2.0 * unit() - 1.0) * (4f64 / 3.0).ln()).exp();
    let side = |length: f64, max: u32| (length.round() as u32).clamp(1, max);
    let (w, h) = (
        side((area * ratio).sqrt(), width),
        side((area / ratio).sqrt(), height),
    );
    let mut place = |room: u32| (unit() * f64::from(room + 1)) as u32;
    let region = Region {
        left: place(width - w),
        top: place(height - h),
        width: w,
        height: h,
    };
    Plan::resized_crop(region, INPUT, unit() < 0.5)
}

/// A random number generator seeded with [`SEED`], `epoch`, `index` and `purpose`.
fn keyed(purpose: &[u8; 4], epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&SEED.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    key[24..28].copy_from_slice(purpose);
    ChaCha8Rng::from_seed(key)
}
