//! Compares the optimizer and the training loop with reference values from PyTorch.
//!
//! The reference files are in `tests/golden`, or in the folder that the environment variable
//! `WAGGLE_GOLDEN` selects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{D, DType, Device, IndexOp, Result, Tensor};
use candle_nn::{Conv2dConfig, Module, VarBuilder};
use serde_json::Value;
use trainer::{
    Batch, Batches, Best, Data, DataLoader, Event, FitConfig, Flow, Gradients, Group, Mode, Model,
    Outcome, Params, Phase, Schedule, Sgd, SgdConfig, Stage,
};

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

fn fixture(name: &str) -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("WAGGLE_GOLDEN")
        .map_or_else(default, PathBuf::from)
        .join(name)
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    let path = fixture(name);
    let read = candle_core::safetensors::load(&path, &Device::Cpu);
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let difference = difference.to_vec1::<f32>().unwrap();
    assert!(difference.iter().all(|x| x.is_finite()));
    difference.into_iter().fold(0.0, f32::max)
}

#[test]
fn golden_sgd() {
    devices().iter().for_each(golden_sgd_on);
}

fn golden_sgd_on(device: &Device) {
    let golden = tensors("sgd.safetensors");
    let variants: Vec<&str> = golden
        .keys()
        .filter_map(|name| name.strip_suffix(".p0"))
        .collect();
    assert!(!variants.is_empty());
    for variant in variants {
        let plain = SgdConfig::default();
        let config = match variant {
            "plain" => plain,
            "momentum" => SgdConfig {
                momentum: 0.9,
                ..plain
            },
            "dampening" => SgdConfig {
                momentum: 0.9,
                dampening: 0.3,
                ..plain
            },
            "decay" => SgdConfig {
                momentum: 0.9,
                weight_decay: 0.05,
                ..plain
            },
            "nesterov" => SgdConfig {
                momentum: 0.9,
                nesterov: true,
                ..plain
            },
            other => panic!("unknown variant `{other}`"),
        };
        let schedule = Schedule::StepLr {
            step: 4,
            gamma: 0.1,
        };
        let start = golden[&format!("{variant}.p0")].copy().unwrap();
        let params =
            Params::from_tensors(BTreeMap::from([("w".to_owned(), start)]), device).unwrap();
        params.set_trainable(&["w"]).unwrap();
        let mut sgd = Sgd::new(&params, config, vec![Group::new("w", 0.05)]).unwrap();

        let gradients: Vec<&Tensor> = (0..)
            .map_while(|step| golden.get(&format!("{variant}.g{step}")))
            .collect();
        assert!(!gradients.is_empty());
        for (step, gradient) in gradients.into_iter().enumerate() {
            let gradient = gradient.to_device(device).unwrap();
            let gradients = Gradients::from_iter([("w".to_owned(), gradient)]);
            sgd.step(gradients, schedule.factor(step as u64)).unwrap();
            let worst = largest_difference(
                &params.tensors()["w"].to_device(&Device::Cpu).unwrap(),
                &golden[&format!("{variant}.p{}", step + 1)],
            );
            assert!(
                worst <= 1e-6,
                "{device:?}: {variant}, step {step}: {worst:e}"
            );
        }
    }
}

/// A VGG network built from candle's operations.
///
/// Max pooling and ReLU are implemented here because candle's gradients for them differ from
/// PyTorch's, and adaptive average pooling because candle does not have it.
struct Vgg {
    names: Vec<String>,
    convolutions: Vec<(candle_nn::Conv2d, bool)>,
    classifier: Vec<candle_nn::Linear>,
}

impl Vgg {
    fn new(golden: &Value, vb: VarBuilder) -> Result<Self> {
        let units = golden["cfg"].as_array().expect("`cfg` must be a list");
        let (mut names, mut convolutions) = (Vec::new(), Vec::new());
        let (mut at, mut channels) = (0, 3);
        for (i, unit) in units.iter().enumerate() {
            let Some(width) = unit.as_u64() else {
                at += 1;
                continue;
            };
            let (width, name) = (width as usize, format!("features.{at}"));
            let config = Conv2dConfig {
                padding: 1,
                ..Default::default()
            };
            let convolution = candle_nn::conv2d(channels, width, 3, config, vb.pp(&name))?;
            convolutions.push((convolution, units.get(i + 1).is_some_and(Value::is_string)));
            names.push(name);
            (at, channels) = (at + 2, width);
        }
        let size = |key: &str| golden[key].as_u64().expect("sizes must be integers") as usize;
        let sizes = [
            channels * 49,
            size("hidden"),
            size("hidden"),
            size("classes"),
        ];
        let mut classifier = Vec::new();
        for (i, at) in [0, 3, 6].into_iter().enumerate() {
            names.push(format!("classifier.{at}"));
            classifier.push(candle_nn::linear(
                sizes[i],
                sizes[i + 1],
                vb.pp(format!("classifier.{at}")),
            )?);
        }
        Ok(Self {
            names,
            convolutions,
            classifier,
        })
    }
}

impl Model for Vgg {
    fn layer_names(&self) -> &[String] {
        &self.names
    }

    /// The reference values were computed without dropout, so the mode is ignored.
    fn forward_layers(&self, x: &Tensor, layers: Range<usize>, _: Mode) -> Result<Tensor> {
        let mut x = x.clone();
        let convolutions = self.convolutions.len();
        for layer in layers {
            if let Some((convolution, pool)) = self.convolutions.get(layer) {
                x = relu(&convolution.forward(&x)?)?;
                if *pool {
                    x = max_pool(&x)?;
                }
                if layer + 1 == convolutions {
                    x = average_pool(&x, 7)?.flatten_from(1)?;
                }
            } else {
                x = self.classifier[layer - convolutions].forward(&x)?;
                if layer + 1 < self.names.len() {
                    x = relu(&x)?;
                }
            }
        }
        Ok(x)
    }
}

/// Computes max(x, 0) with gradient 0 at x = 0, as in PyTorch. candle's gradient there is 1.
fn relu(x: &Tensor) -> Result<Tensor> {
    x * x.detach().gt(0.0)?.to_dtype(DType::F32)?
}

/// Applies 2×2 max pooling as a gather, so that the first maximum gets the whole gradient.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (h, w) = (h / 2, w / 2);
    let windows = x
        .i((.., .., ..2 * h, ..2 * w))?
        .contiguous()?
        .reshape(&[n, c, h, 2, w, 2])?;
    let windows = windows
        .permute([0, 1, 2, 4, 3, 5])?
        .contiguous()?
        .reshape(&[n, c, h, w, 4])?;
    windows
        .gather(&windows.detach().argmax_keepdim(D::Minus1)?, D::Minus1)?
        .squeeze(D::Minus1)
}

/// Applies adaptive average pooling to `size`×`size`, by multiplying with an averaging matrix on
/// each side.
fn average_pool(x: &Tensor, size: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let averages = |length: usize| {
        let mut rows = vec![0f32; size * length];
        for i in 0..size {
            let (start, end) = (i * length / size, ((i + 1) * length).div_ceil(size));
            rows[i * length + start..i * length + end].fill(1.0 / (end - start) as f32);
        }
        Tensor::from_vec(rows, (size, length), &Device::Cpu)
    };
    let columns = x
        .reshape((n * c * h, w))?
        .matmul(&averages(w)?.t()?)?
        .reshape((n * c, h, size))?;
    averages(h)?
        .broadcast_left(n * c)?
        .contiguous()?
        .matmul(&columns)?
        .reshape((n, c, size, size))
}

/// A data loader that returns the given batches in every epoch.
struct GoldenBatches(Vec<Batch>);

impl DataLoader for GoldenBatches {
    fn samples(&self) -> usize {
        self.0.iter().map(|batch| batch.indices.len()).sum()
    }

    fn epoch(&self, _epoch: u64, first_batch: usize) -> Batches<'_> {
        Box::new(self.0[first_batch..].iter().cloned().map(Ok))
    }
}

fn golden_batches(golden: &BTreeMap<String, Tensor>) -> Vec<Batch> {
    let batch = |step: usize| {
        let pixels = golden
            .get(&format!("batch{step}.pixels"))?
            .to_dtype(DType::F32)
            .unwrap();
        let targets = golden[&format!("batch{step}.y")]
            .to_dtype(DType::U32)
            .unwrap();
        let samples = targets.elem_count();
        let indices = (step * samples..(step + 1) * samples).collect();
        Some(Batch {
            inputs: ((pixels / 127.5).unwrap() - 1.0).unwrap(),
            targets,
            indices,
        })
    };
    (0..).map_while(batch).collect()
}

/// Trains the network for one epoch with `fit`, and compares the loss of each batch and the final
/// weights with the reference values of the training run `run`.
fn golden_trajectory(run: &str) {
    let json: Value =
        serde_json::from_slice(&std::fs::read(fixture("vgg_narrow.json")).unwrap()).unwrap();
    let golden = tensors("vgg_narrow.safetensors");
    let number = |key: &str| {
        json[key]
            .as_f64()
            .unwrap_or_else(|| panic!("`{key}` must be a number"))
    };

    let start = golden
        .iter()
        .filter_map(|(name, t)| Some((name.strip_prefix("init.")?.to_owned(), t.copy().unwrap())));
    let params = Params::from_tensors(start.collect(), &Device::Cpu).unwrap();
    let mut config = SgdConfig {
        momentum: number("momentum"),
        ..SgdConfig::default()
    };
    let groups = if run == "head_only" {
        params.set_trainable(&["classifier.6"]).unwrap();
        vec![Group::everything(number("head_only_lr"))]
    } else {
        params.set_trainable(&["features", "classifier"]).unwrap();
        if run == "nesterov_weight_decay" {
            config = SgdConfig {
                nesterov: true,
                weight_decay: number("weight_decay"),
                ..config
            };
        }
        let lr = |i: usize| {
            json["group_lrs"][i]
                .as_f64()
                .expect("learning rates must be numbers")
        };
        // `classifier` also covers `classifier.6`, but the longer pattern wins.
        vec![
            Group::new("features", lr(0)),
            Group::new("classifier", lr(1)),
            Group::new("classifier.6", lr(2)),
        ]
    };

    let batches = golden_batches(&golden);
    let data = Data {
        train: &GoldenBatches(batches.clone()),
        val: &GoldenBatches(batches[..1].to_vec()),
    };
    let fit_config = FitConfig {
        epochs: 1,
        baseline: false,
        ..FitConfig::default()
    };
    let mut stage = Stage::new(&params, config, groups).unwrap();
    let mut losses = Vec::new();
    let mut observe = |event: &Event, _: &Stage| {
        if let Event::BatchDone {
            phase: Phase::Train,
            progress,
            ..
        } = event
        {
            losses.push(progress.batch_loss);
        }
        Flow::Continue
    };
    let outcome = trainer::fit(
        &params,
        |vb| Vgg::new(&json, vb),
        data,
        &fit_config,
        &mut stage,
        &mut observe,
    )
    .unwrap();
    assert!(matches!(
        outcome,
        Outcome::Finished {
            best: Best::Epoch(1),
            ..
        }
    ));

    let expected: Vec<f64> = json["losses"][run]
        .as_array()
        .expect("`losses` must contain a list per run")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(losses.len(), expected.len());
    for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
        assert!(
            (loss - expected).abs() <= 1e-5,
            "{run}, step {step}: {loss}, expected {expected}"
        );
    }
    let prefix = format!("{run}.");
    let mut compared = 0;
    for (name, tensor) in params.tensors() {
        match golden.get(&format!("{prefix}{name}")) {
            Some(expected) => {
                let worst = largest_difference(&tensor, expected);
                assert!(worst <= 1e-5, "{run}, {name}: {worst:e}");
                compared += 1;
            }
            // Parameters without a reference value after this run are frozen.
            None => assert_eq!(
                largest_difference(&tensor, &golden[&format!("init.{name}")]),
                0.0,
                "{run}, {name}"
            ),
        }
    }
    assert_eq!(
        compared,
        golden
            .keys()
            .filter(|name| name.starts_with(&prefix))
            .count()
    );
    assert!(compared > 0);
}

#[test]
fn golden_vgg_grouped_sgd_momentum() {
    golden_trajectory("grouped_sgd_momentum");
}

#[test]
fn golden_vgg_head_only() {
    golden_trajectory("head_only");
}

#[test]
fn golden_vgg_nesterov_weight_decay() {
    golden_trajectory("nesterov_weight_decay");
}
