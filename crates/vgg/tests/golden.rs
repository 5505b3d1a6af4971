//! Comparison with PyTorch: tensor names, logits, losses, gradients, and SGD steps. Also tests that
//! dropout masks are equal on all devices, and that layer ranges compose.
//!
//! The reference values come from a narrow torchvision VGG. `WAGGLE_GOLDEN` selects another folder
//! of reference values, which determines the configuration and the image sizes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use kernels::{ConvLayer, adaptive_avg_pool2d, device};
use serde_json::Value;
use vgg::config::Unit;
use vgg::{HeatMapMethod, Mode, Vgg, VggConfig};

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

type Tensors = BTreeMap<String, Tensor>;

/// Tolerance for a result: `on_cpu` on the CPU, and at least 1e-4 on a GPU, which sums in a
/// different order.
fn tolerance(device: &Device, on_cpu: f32) -> f32 {
    if device.is_cpu() {
        on_cpu
    } else {
        on_cpu.max(1e-4)
    }
}

struct Golden {
    folder: PathBuf,
    json: Value,
    tensors: Tensors,
    config: VggConfig,
}

impl Golden {
    fn read() -> Self {
        let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let folder = std::env::var_os("WAGGLE_GOLDEN").map_or(default, PathBuf::from);
        let json = std::fs::read(folder.join("vgg_narrow.json")).expect("the golden json");
        let json: Value = serde_json::from_slice(&json).expect("json");
        let path = folder.join("vgg_narrow.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("golden tensors");
        let units = json["cfg"].as_array().expect("cfg").iter();
        let features = units.map(|unit| match unit.as_u64() {
            Some(width) => Unit::Conv(width as usize),
            None => Unit::Pool,
        });
        let config = VggConfig {
            architecture: "narrow".into(),
            features: features.collect(),
            batch_norm: false,
            avgpool: 7,
            hidden: json["hidden"].as_u64().expect("hidden") as usize,
            classes: json["classes"].as_u64().expect("classes") as usize,
            input_size: 64,
        };
        Self {
            folder,
            json,
            tensors: tensors.into_iter().collect(),
            config,
        }
    }

    /// Returns the tensors whose names start with `prefix`, which is removed.
    fn with_prefix(&self, prefix: &str) -> Tensors {
        let entries = self.tensors.iter();
        entries
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.into(), tensor.clone())))
            .collect()
    }

    fn images(&self, name: &str, device: &Device) -> Tensor {
        let pixels = self.tensors[name].to_dtype(DType::F32).expect("pixels");
        let pixels = pixels.to_device(device).expect("pixels");
        ((pixels / 127.5).expect("scaled") - 1.0).expect("shifted")
    }

    fn sizes(&self) -> Vec<String> {
        let sizes: Vec<_> = self.with_prefix("pixels").into_keys().collect();
        assert!(!sizes.is_empty(), "the golden file has no images");
        sizes
    }
}

/// Returns the network, and the variables of the parameters whose names start with one of
/// `trainable`.
fn network(golden: &Golden, trainable: &[&str], device: &Device) -> (Vgg, BTreeMap<String, Var>) {
    let mut vars = BTreeMap::new();
    let mut tensors = std::collections::HashMap::new();
    for (name, tensor) in golden.with_prefix("init.") {
        let tensor = tensor.to_device(device).and_then(|t| t.copy());
        let var = Var::from_tensor(&tensor.expect("copy")).expect("variable");
        if trainable.iter().any(|prefix| name.starts_with(prefix)) {
            tensors.insert(name.clone(), var.as_tensor().clone());
            vars.insert(name, var);
        } else {
            tensors.insert(name, var.as_tensor().detach());
        }
    }
    let vb = VarBuilder::from_tensors(tensors, DType::F32, device);
    (
        Vgg::new(&golden.config, vb).expect("the narrow network"),
        vars,
    )
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let log = candle_nn::ops::log_softmax(logits, D::Minus1).expect("log softmax");
    candle_nn::loss::nll(&log, labels).expect("loss")
}

fn labels(tensor: &Tensor, n: usize, device: &Device) -> Tensor {
    let all = tensor.to_dtype(DType::U32).expect("labels");
    let first = all.narrow(0, 0, n).expect("enough labels");
    first.to_device(device).expect("labels")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let pairs = values(a).into_iter().zip(values(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn largest(tensor: &Tensor) -> f32 {
    values(tensor)
        .into_iter()
        .fold(0.0, |max, value| max.max(value.abs()))
}

#[test]
fn golden_tensor_names_and_shapes_match_torchvision() {
    let golden = Golden::read();
    let shapes = golden.config.tensor_shapes().expect("the narrow network");
    let shapes: BTreeMap<_, _> = shapes.into_iter().collect();
    let expected = golden.with_prefix("init.").into_iter();
    let expected: BTreeMap<_, _> = expected
        .map(|(name, tensor)| (name, tensor.dims().to_vec()))
        .collect();
    assert_eq!(shapes, expected);
}

#[test]
fn golden_logits_losses_and_gradients_match() {
    let golden = Golden::read();
    for device in devices() {
        let (network, vars) = network(&golden, &[""], &device);
        for size in golden.sizes() {
            let x = golden.images(&format!("pixels{size}"), &device);
            let n = x.dim(0).expect("images");
            let logits = network.forward(&x, Mode::Eval).expect("forward");
            let difference = largest_difference(&logits, &golden.tensors[&format!("logits{size}")]);
            let allowed = tolerance(&device, 1e-5);
            assert!(
                difference <= allowed,
                "{device:?}: logits at {size}: {difference}"
            );

            let labels = labels(&golden.tensors["labels"], n, &device);
            let loss = cross_entropy(&logits, &labels);
            let expected = values(&golden.tensors[&format!("loss{size}")])[0];
            let loss_value = loss.to_scalar::<f32>().expect("a number");
            assert!(
                (loss_value - expected).abs() <= allowed,
                "{device:?}: loss at {size}: {loss_value}"
            );

            let gradients = loss.backward().expect("backward");
            let expected = golden.with_prefix(&format!("grad{size}."));
            assert!(!expected.is_empty(), "no gradients at {size}");
            for (name, expected) in expected {
                let gradient = gradients.get(&vars[&name]).expect("a gradient");
                let difference = largest_difference(gradient, &expected) / largest(&expected);
                assert!(
                    difference <= 1e-4,
                    "{device:?}: gradient of {name} at {size}: {difference}"
                );
            }
        }
    }
}

/// Runs convolutions, ReLUs and linear layers with the functions of `kernels::device`, on the CPU.
#[test]
fn golden_gradients_of_the_device_functions_match() {
    let golden = Golden::read();
    let (_, vars) = network(&golden, &[""], &Device::Cpu);
    let parameter = |name: String| vars[&name].as_tensor().clone();
    let weights = |layer: &str| [format!("{layer}.weight"), format!("{layer}.bias")].map(parameter);
    let convolutions = golden.config.convolutions().expect("the narrow network");
    let layers = convolutions.iter().map(|conv| {
        let [weight, bias] = weights(&format!("features.{}", conv.index));
        ConvLayer::new(weight, bias, conv.pool).expect("a layer")
    });
    let layers: Vec<_> = layers.collect();
    for size in golden.sizes() {
        let x = golden.images(&format!("pixels{size}"), &Device::Cpu);
        let n = x.dim(0).expect("images");
        let pool = (golden.config.avgpool, golden.config.avgpool);
        let mut x = device::conv_stack(&x, &layers)
            .and_then(|x| adaptive_avg_pool2d(&x, pool)?.flatten_from(1))
            .expect("features");
        for layer in ["classifier.0", "classifier.3", "classifier.6"] {
            let [weight, bias] = weights(layer);
            x = device::linear(&x, &weight, &bias).expect("a linear layer");
            if layer != "classifier.6" {
                x = device::relu(&x).expect("a ReLU");
            }
        }
        let difference = largest_difference(&x, &golden.tensors[&format!("logits{size}")]);
        assert!(difference <= 1e-5, "logits at {size}: {difference}");
        let labels = labels(&golden.tensors["labels"], n, &Device::Cpu);
        let gradients = cross_entropy(&x, &labels).backward().expect("backward");
        for (name, expected) in golden.with_prefix(&format!("grad{size}.")) {
            let gradient = gradients.get(&vars[&name]).expect("a gradient");
            let difference = largest_difference(gradient, &expected) / largest(&expected);
            assert!(
                difference <= 1e-4,
                "gradient of {name} at {size}: {difference}"
            );
        }
    }
}

/// Compares outputs with dropout. A different mask bit changes its element, unless the ReLU set that
/// element to 0.
#[test]
fn golden_dropout_masks_are_equal_on_all_devices() {
    let golden = Golden::read();
    let mode = Mode::Train { seed: 5, step: 7 };
    let size = &golden.sizes()[0];
    let run = |device: &Device| {
        let (network, _) = network(&golden, &[], device);
        let x = golden.images(&format!("pixels{size}"), device);
        let all = network.layer_names().len();
        [all - 2, all].map(|end| network.forward_layers(&x, 0..end, mode).expect("forward"))
    };
    let expected = run(&Device::Cpu);
    let eval = network(&golden, &[], &Device::Cpu).0;
    let logits = eval
        .forward(
            &golden.images(&format!("pixels{size}"), &Device::Cpu),
            Mode::Eval,
        )
        .expect("forward");
    assert!(
        largest_difference(&logits, &expected[1]) > 1e-3,
        "dropout has no effect"
    );
    for device in devices() {
        for (actual, expected) in run(&device).iter().zip(&expected) {
            let difference = largest_difference(actual, expected);
            assert!(difference <= 1e-4, "{device:?}: {difference}");
        }
    }
}

#[test]
fn golden_layer_ranges_compose() {
    let golden = Golden::read();
    let (network, _) = network(&golden, &[], &Device::Cpu);
    let x = golden.images(&format!("pixels{}", golden.sizes()[0]), &Device::Cpu);
    let all = network.layer_names().len();
    let whole = values(&network.forward(&x, Mode::Eval).expect("forward"));
    for split in 0..=all {
        let first = network
            .forward_layers(&x, 0..split, Mode::Eval)
            .expect("first part");
        let second = network
            .forward_layers(&first, split..all, Mode::Eval)
            .expect("second part");
        assert_eq!(values(&second), whole, "split at {split}");
    }
}

/// Compares heat maps with those of pytorch-grad-cam. A case has the map at the resolution of the
/// layer (not for Grad-CAM++), relative to its maximum, and every n-th pixel of the resized map.
#[test]
fn golden_heat_maps_match_pytorch_grad_cam() {
    let golden = Golden::read();
    let json = std::fs::read(golden.folder.join("insight.json")).expect("the golden json");
    let json: Value = serde_json::from_slice(&json).expect("json");
    let maps = golden.folder.join("insight.safetensors");
    let maps = candle_core::safetensors::load(maps, &Device::Cpu).expect("golden tensors");
    let cases = json["heatmaps"].as_array().expect("heat maps");
    assert!(!cases.is_empty(), "no heat maps");
    for device in devices() {
        let (network, _) = network(&golden, &[], &device);
        for (number, case) in cases.iter().enumerate() {
            let integer = |name: &str| case[name].as_u64().expect(name) as usize;
            let (side, class, every) =
                (integer("side"), integer("target"), integer("full_is_every"));
            let layer = format!("features.{}", integer("layer"));
            let method: HeatMapMethod = case["method"]
                .as_str()
                .expect("a method")
                .parse()
                .expect("a method");
            let images = golden.images(&format!("pixels{side}"), &device);
            let full = &maps[&format!("heatmaps{number}.full")];
            for index in 0..images.dim(0).expect("images") {
                let image = images.narrow(0, index, 1).expect("an image");
                let map = network
                    .heat_map(&image, Some(class), &layer, method)
                    .expect("a heat map");
                let compare = |actual: Vec<f32>, expected: &Tensor, scale: f32| {
                    let expected = values(&expected.get(index).expect("a map of the image"));
                    assert_eq!(actual.len(), expected.len());
                    let pairs = actual.into_iter().zip(expected);
                    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
                    assert!(
                        difference <= 1e-4,
                        "{device:?}: {case}, image {index}: {difference}"
                    );
                };
                if let Some(raw) = maps.get(&format!("heatmaps{number}.raw")) {
                    assert_eq!(raw.dims()[1..], [map.height, map.width]);
                    let largest = largest(&raw.get(index).expect("a map of the image"));
                    compare(map.raw.clone(), raw, largest);
                }
                let resized = map.resized(side, side);
                let rows = resized.chunks(side).step_by(every);
                let kept = rows.flat_map(|row| row.iter().copied().step_by(every));
                compare(kept.collect(), full, 1.0);
            }
        }
    }
}

/// Returns the learning rate of a parameter in the reference runs with parameter groups.
fn learning_rate(json: &Value, name: &str) -> f64 {
    let group = match name {
        name if name.starts_with("features") => 0,
        name if name.starts_with("classifier.6") => 2,
        _ => 1,
    };
    json["group_lrs"][group].as_f64().expect("a learning rate")
}

fn compare_sgd(recipe: &str, trainable: &[&str], nesterov: bool, weight_decay: f64) {
    for device in devices() {
        compare_sgd_on(&device, recipe, trainable, nesterov, weight_decay);
    }
}

fn compare_sgd_on(
    device: &Device,
    recipe: &str,
    trainable: &[&str],
    nesterov: bool,
    weight_decay: f64,
) {
    let golden = Golden::read();
    let allowed = tolerance(device, 1e-5);
    let (network, vars) = network(&golden, trainable, device);
    let momentum = golden.json["momentum"].as_f64().expect("momentum");
    let head_only_lr = golden.json["head_only_lr"]
        .as_f64()
        .expect("a learning rate");
    let mut velocity = Tensors::new();
    let losses = golden.json["losses"][recipe].as_array().expect("losses");
    for (step, expected) in losses.iter().enumerate() {
        let x = golden.images(&format!("batch{step}.pixels"), device);
        let y = &golden.tensors[&format!("batch{step}.y")];
        let y = labels(y, y.dim(0).expect("labels"), device);
        let loss = cross_entropy(&network.forward(&x, Mode::Eval).expect("forward"), &y);
        let difference = f64::from(loss.to_scalar::<f32>().expect("a number"))
            - expected.as_f64().expect("a loss");
        assert!(
            difference.abs() <= f64::from(allowed),
            "{device:?}: {recipe}, step {step}: {difference}"
        );
        let gradients = loss.backward().expect("backward");
        for (name, var) in &vars {
            let lr = if recipe == "head_only" {
                head_only_lr
            } else {
                learning_rate(&golden.json, name)
            };
            let g = gradients.get(var).expect("a gradient").detach();
            let g = (g + (var.as_tensor().detach() * weight_decay).expect("weight decay"))
                .expect("sum");
            let v = match velocity.get(name) {
                Some(v) => ((v * momentum).expect("product") + &g).expect("sum"),
                None => g.clone(),
            };
            let d = if nesterov {
                (g + (&v * momentum).expect("product")).expect("sum")
            } else {
                v.clone()
            };
            velocity.insert(name.clone(), v);
            let next = (var.as_tensor().detach() - (d * lr).expect("product")).expect("difference");
            var.set(&next).expect("update");
        }
    }
    let end = golden.with_prefix(&format!("{recipe}."));
    assert!(!end.is_empty(), "no final weights of {recipe}");
    for (name, expected) in end {
        let difference = largest_difference(vars[&name].as_tensor(), &expected);
        assert!(
            difference <= allowed,
            "{device:?}: {recipe}: {name}: {difference}"
        );
    }
}

#[test]
fn golden_sgd_with_momentum_and_groups_matches() {
    compare_sgd("grouped_sgd_momentum", &[""], false, 0.0);
}

#[test]
fn golden_sgd_of_the_head_only_matches() {
    compare_sgd("head_only", &["classifier.6"], false, 0.0);
}

#[test]
fn golden_sgd_with_nesterov_and_weight_decay_matches() {
    let weight_decay = Golden::read().json["weight_decay"]
        .as_f64()
        .expect("weight decay");
    compare_sgd("nesterov_weight_decay", &[""], true, weight_decay);
}
