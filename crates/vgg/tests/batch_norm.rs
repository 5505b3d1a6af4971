//! Tests of batch norm: logits and gradients compared with PyTorch (tests/batch_norm/make.py),
//! folding, layer ranges, saving and loading, and architecture detection.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use vgg::{Head, Metadata, Mode, Vgg, VggConfig, config};

const CPU: Device = Device::Cpu;

fn narrow() -> VggConfig {
    VggConfig {
        batch_norm: true,
        ..VggConfig::slim_vgg16([4, 6, 8, 8, 8], 8, 2, 64, 3)
    }
}

fn golden() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/batch_norm/narrow.safetensors");
    candle_core::safetensors::load(path, &CPU).expect("the golden file")
}

fn init(golden: &HashMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let named = golden.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix("init.")?;
        Some((name.to_string(), tensor.clone()))
    });
    named
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .collect()
}

fn images(golden: &HashMap<String, Tensor>) -> Tensor {
    let pixels = golden["pixels"].to_dtype(DType::F32).expect("pixels");
    ((pixels / 127.5).expect("scaled") - 1.0).expect("shifted")
}

fn network(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Vgg {
    let tensors = tensors.into_iter().collect();
    Vgg::new(
        &narrow(),
        VarBuilder::from_tensors(tensors, DType::F32, &CPU),
    )
    .expect("a network")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

/// Returns the largest absolute difference, divided by the largest absolute expected value.
fn difference(actual: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(actual.dims(), expected.dims());
    let (actual, expected) = (values(actual), values(expected));
    let largest = expected
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    let pairs = actual.iter().zip(&expected);
    pairs.fold(0f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

#[test]
fn golden_logits_and_gradients_match_pytorch() {
    let golden = golden();
    let vars: BTreeMap<String, Var> = init(&golden)
        .into_iter()
        .filter(|(name, _)| !config::is_buffer(name))
        .map(|(name, tensor)| (name, Var::from_tensor(&tensor).expect("a variable")))
        .collect();
    let tensors = init(&golden)
        .into_iter()
        .map(|(name, tensor)| match vars.get(&name) {
            Some(var) => (name, var.as_tensor().clone()),
            None => (name, tensor),
        });
    let network = network(tensors);
    let labels = golden["labels"].to_dtype(DType::U32).expect("labels");
    for network in [network.clone(), network.with_grad_sink()] {
        let logits = network
            .forward(&images(&golden), Mode::Eval)
            .expect("logits");
        assert!(difference(&logits, &golden["logits"]) < 1e-5);
        let loss = candle_nn::loss::cross_entropy(&logits, &labels).expect("a loss");
        let gradients = loss.backward().expect("gradients");
        for (name, var) in &vars {
            let gradient = gradients
                .get(var)
                .cloned()
                .or_else(|| network.take_gradient(var)?.to_dense().ok());
            let expected = &golden[&format!("grad.{name}")];
            let difference = difference(&gradient.expect(name), expected);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
    }
}

#[test]
fn trainable_batch_norms_are_folded_in_each_forward_pass() {
    let golden = golden();
    let var = Var::from_tensor(&golden["init.features.1.weight"]).expect("a variable");
    let mut tensors = init(&golden);
    tensors.insert("features.1.weight".into(), var.as_tensor().clone());
    let network = network(tensors);
    let run = || {
        values(
            &network
                .forward(&images(&golden), Mode::Eval)
                .expect("logits"),
        )
    };
    let before = run();
    var.set(&(var.as_tensor() * 2.0).expect("doubled weights"))
        .expect("set");
    assert_ne!(before, run());
}

#[test]
fn layer_ranges_compose_at_every_split() {
    let golden = golden();
    let network = network(init(&golden));
    let x = images(&golden);
    let whole = values(&network.forward(&x, Mode::Eval).expect("logits"));
    let layers = network.layer_names().len();
    assert_eq!(layers, 2 * 13 + 3);
    for split in 0..=layers {
        let activations = network
            .forward_layers(&x, 0..split, Mode::Eval)
            .expect("the first part");
        let logits = network
            .forward_layers(&activations, split..layers, Mode::Eval)
            .expect("the second part");
        assert_eq!(values(&logits), whole, "split at {split}");
    }
}

#[test]
fn a_model_with_batch_norm_is_saved_and_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let metadata = Metadata {
        config: narrow(),
        classes: ["a", "b", "c"].map(String::from).into(),
        mean: [0.5; 3],
        std: [0.5; 3],
        temperature: 1.0,
    };
    let tensors = init(&golden());
    vgg::save(&path, &tensors, &metadata).expect("saved");
    let model = vgg::load_model(&path, &CPU).expect("loaded");
    assert_eq!(model.metadata, metadata);
    for (name, tensor) in &tensors {
        assert_eq!(values(tensor), values(&model.tensors[name]), "{name}");
    }
    // State dicts of PyTorch also contain `num_batches_tracked`, which is ignored.
    let path = folder.path().join("pytorch.safetensors");
    let all: HashMap<_, _> = golden()
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("init.")?.to_string(), tensor)))
        .collect();
    assert!(all.contains_key("features.1.num_batches_tracked"));
    candle_core::safetensors::save(&all, &path).expect("a file");
    let loaded = vgg::load_pretrained(&path, &narrow(), Head::Keep, 1, &CPU).expect("weights");
    assert!(loaded.report.initialized.is_empty());
    assert_eq!(loaded.tensors.len(), tensors.len());
}

#[test]
fn architecture_with_batch_norm_is_detected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bn.safetensors");
    let small = |config: VggConfig| VggConfig {
        hidden: 2,
        avgpool: 1,
        ..config
    };
    let config = small(VggConfig::named("vgg11_bn", 2).expect("a valid configuration"));
    let tensors = vgg::init::from_scratch(&config, 1, &CPU).expect("tensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path).expect("a file");
    let error = vgg::load_pretrained(&path, &small(VggConfig::vgg11(2)), Head::Replace, 1, &CPU);
    let message = error.expect_err("another architecture").to_string();
    assert!(
        message.contains("contains weights of vgg11_bn, not vgg11"),
        "{message}"
    );
    vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).expect("weights");
}
