//! What other programs get: ONNX run by a runtime that is not ours, timm's names read back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use rten::{Value, ValueView};
use vgg::onnx::{self, Output};
use vgg::{Error, Head, Metadata, Mode, Vgg, VggConfig, timm};

const CPU: Device = Device::Cpu;

fn plain(avgpool: usize, input_size: usize) -> VggConfig {
    VggConfig::slim_vgg16([4, 6, 8, 8, 8], 16, avgpool, input_size, 3)
}

fn with_batch_norm() -> VggConfig {
    VggConfig {
        batch_norm: true,
        ..plain(2, 64)
    }
}

fn metadata(config: &VggConfig) -> Metadata {
    Metadata {
        config: config.clone(),
        classes: ["ant", "bee", "größer \"als\" eine Wespe"]
            .map(String::from)
            .into(),
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

/// Weights large enough for the logits to differ, and statistics that are not 0 and 1.
fn tensors(config: &VggConfig) -> BTreeMap<String, Tensor> {
    let tensors = vgg::init::from_scratch(config, 5, &CPU).expect("a narrow network");
    let varied = |(name, tensor): (String, Tensor)| {
        let count = tensor.elem_count();
        let noise = (0..count).map(|at| ((at * 7919 + name.len()) % 101) as f32 / 202.0);
        let noise = Tensor::from_vec(noise.collect(), tensor.shape(), &CPU).expect("noise");
        let varied = match tensor.rank() {
            2 => (tensor * 30.0).expect("scaled"),
            1 => (tensor + noise).expect("shifted"),
            _ => tensor,
        };
        (name, varied)
    };
    tensors.into_iter().map(varied).collect()
}

fn network(config: &VggConfig, tensors: &BTreeMap<String, Tensor>) -> Vgg {
    let tensors: HashMap<_, _> = tensors.clone().into_iter().collect();
    Vgg::new(config, VarBuilder::from_tensors(tensors, DType::F32, &CPU)).expect("a network")
}

fn pictures(count: usize, side: usize) -> (Vec<f32>, Tensor) {
    let values = (0..count * 3 * side * side).map(|at| ((at * 7919) % 1000) as f32 / 500.0 - 1.0);
    let values: Vec<f32> = values.collect();
    let shape = (count, 3, side, side);
    let tensor = Tensor::from_vec(values.clone(), shape, &CPU).expect("pictures");
    (values, tensor)
}

fn run(model: &rten::Model, pictures: &[f32], count: usize, side: usize) -> Vec<f32> {
    let x = ValueView::from_shape([count, 3, side, side], pictures).expect("pictures");
    match model.run_one(x.into(), None).expect("a run") {
        Value::FloatTensor(tensor) => tensor.into_data(),
        other => panic!("{other:?}"),
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 1e-3, "{what}: the comparison says nothing");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-4 * largest,
            "{what}: {found} {expected}"
        );
    }
}

#[test]
fn another_runtime_computes_the_same_from_onnx() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    for (what, config) in [
        ("the pool is the size of its input", plain(2, 64)),
        ("the pool repeats", plain(7, 100)),
        ("the pool averages unevenly", plain(2, 96)),
        ("batch norm", with_batch_norm()),
    ] {
        let (tensors, side) = (tensors(&config), config.input_size);
        onnx::save(&path, &tensors, &metadata(&config), Output::Logits).expect("a file");
        let model = rten::Model::load_file(&path).expect("a model that others read");
        for count in [1, 3] {
            let (x, pictures) = pictures(count, side);
            let ours = network(&config, &tensors)
                .forward(&pictures, Mode::Eval)
                .expect("logits");
            close(&run(&model, &x, count, side), &values(&ours), what);
        }
    }
}

#[test]
fn softmax_and_metadata_go_with_it_and_the_bytes_are_the_same_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, config) = (folder.path().join("model.onnx"), plain(2, 64));
    let tensors = tensors(&config);
    let save = || {
        onnx::save(&path, &tensors, &metadata(&config), Output::Probabilities).expect("a file");
        std::fs::read(&path).expect("a file")
    };
    assert!(save() == save());
    let model = rten::Model::load_file(&path).expect("a model that others read");
    let (x, pictures) = pictures(2, 64);
    let logits = network(&config, &tensors)
        .forward(&pictures, Mode::Eval)
        .expect("logits");
    let expected = candle_nn::ops::softmax(&logits, D::Minus1).expect("probabilities");
    close(&run(&model, &x, 2, 64), &values(&expected), "probabilities");
    let about = model.metadata();
    let classes: Vec<String> =
        serde_json::from_str(about.get("classes").expect("classes")).expect("JSON");
    assert_eq!(classes, metadata(&config).classes);
    let mean: Vec<f32> = serde_json::from_str(about.get("mean").expect("a mean")).expect("JSON");
    assert_eq!(mean, [0.485, 0.456, 0.406]);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
}

#[test]
fn timms_names_and_shapes_are_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    for config in [plain(2, 64), with_batch_norm()] {
        let ours = tensors(&config);
        let theirs = timm::renamed(&ours, &config).expect("renamed");
        assert_eq!(theirs["pre_logits.fc1.weight"].dims(), [16, 8, 2, 2]);
        assert_eq!(theirs["pre_logits.fc2.weight"].dims(), [16, 16, 1, 1]);
        assert_eq!(theirs["head.fc.weight"].dims(), [3, 16]);
        candle_core::safetensors::save(&theirs.into_iter().collect(), &path).expect("a file");
        let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
        assert!(loaded.report.fresh.is_empty());
        for (name, tensor) in &ours {
            assert_eq!(values(tensor), values(&loaded.tensors[name]), "{name}");
        }
    }
}

#[test]
fn a_network_that_timm_has_not_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, config) = (folder.path().join("timm"), plain(2, 64));
    let error =
        timm::save(&out, &tensors(&config), &metadata(&config)).expect_err("no such network");
    assert!(matches!(error, Error::Metadata { .. }));
    assert!(
        error.to_string().contains("timm has no slim_vgg16"),
        "{error}"
    );
    assert!(!Path::new(&out).exists());
}
