//! Batch norm against PyTorch (tests/batch_norm/make.py): logits, every gradient, running in part, saving.

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

fn pictures(golden: &HashMap<String, Tensor>) -> Tensor {
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

/// The largest difference, relative to the largest value.
fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (values(found), values(expected));
    let largest = expected
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().zip(&expected);
    pairs.fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn golden_logits_and_every_gradient() {
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
            .forward(&pictures(&golden), Mode::Eval)
            .expect("logits");
        assert!(difference(&logits, &golden["logits"]) < 1e-5);
        let loss = candle_nn::loss::cross_entropy(&logits, &labels).expect("a loss");
        let gradients = loss.backward().expect("gradients");
        for (name, var) in &vars {
            let found = gradients
                .get(var)
                .cloned()
                .or_else(|| network.take_gradient(var)?.values().ok());
            let expected = &golden[&format!("grad.{name}")];
            let difference = difference(&found.expect(name), expected);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
    }
}

#[test]
fn weights_that_train_are_folded_anew_at_each_step() {
    let golden = golden();
    let var = Var::from_tensor(&golden["init.features.1.weight"]).expect("a variable");
    let mut tensors = init(&golden);
    tensors.insert("features.1.weight".into(), var.as_tensor().clone());
    let network = network(tensors);
    let run = || {
        values(
            &network
                .forward(&pictures(&golden), Mode::Eval)
                .expect("logits"),
        )
    };
    let before = run();
    var.set(&(var.as_tensor() * 2.0).expect("twice"))
        .expect("set");
    assert_ne!(before, run());
}

#[test]
fn running_in_part_is_running_the_whole_wherever_it_is_cut() {
    let golden = golden();
    let network = network(init(&golden));
    let x = pictures(&golden);
    let whole = values(&network.forward(&x, Mode::Eval).expect("logits"));
    let layers = network.layer_names().len();
    assert_eq!(layers, 2 * 13 + 3);
    for cut in 0..=layers {
        let half = network
            .forward_layers(&x, 0..cut, Mode::Eval)
            .expect("the first part");
        let rest = network
            .forward_layers(&half, cut..layers, Mode::Eval)
            .expect("the rest");
        assert_eq!(values(&rest), whole, "cut at {cut}");
    }
}

#[test]
fn a_model_with_batch_norm_is_saved_and_loaded_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let metadata = Metadata {
        config: narrow(),
        classes: ["a", "b", "c"].map(String::from).into(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let tensors = init(&golden());
    vgg::save(&path, &tensors, &metadata).expect("saved");
    let model = vgg::load_model(&path, &CPU).expect("loaded");
    assert_eq!(model.metadata, metadata);
    for (name, tensor) in &tensors {
        assert_eq!(values(tensor), values(&model.tensors[name]), "{name}");
    }
    // PyTorch's own file also counts batches; that is no weight, and known.
    let theirs = folder.path().join("theirs.safetensors");
    let all: HashMap<_, _> = golden()
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("init.")?.to_string(), tensor)))
        .collect();
    assert!(all.contains_key("features.1.num_batches_tracked"));
    candle_core::safetensors::save(&all, &theirs).expect("a file");
    let loaded = vgg::load_pretrained(&theirs, &narrow(), Head::Keep, 1, &CPU).expect("weights");
    assert!(loaded.report.fresh.is_empty());
    assert_eq!(loaded.tensors.len(), tensors.len());
}

#[test]
fn a_network_with_batch_norm_is_named_where_one_without_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bn.safetensors");
    let small = |config: VggConfig| VggConfig {
        hidden: 2,
        avgpool: 1,
        ..config
    };
    let with = small(VggConfig::named("vgg11_bn", 2).expect("a network of the table"));
    let tensors = vgg::init::from_scratch(&with, 1, &CPU).expect("tensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path).expect("a file");
    let error = vgg::load_pretrained(&path, &small(VggConfig::vgg11(2)), Head::Fresh, 1, &CPU);
    let message = error.expect_err("another network").to_string();
    assert!(
        message.contains("this is a vgg11_bn") && message.contains("--arch vgg11_bn"),
        "{message}"
    );
    vgg::load_pretrained(&path, &with, Head::Fresh, 1, &CPU).expect("the right one");
}
