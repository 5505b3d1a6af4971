//! Tests of exports: running ONNX files in another runtime, and reloading weights in timm's format.

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
        temperature: 1.0,
    }
}

/// Returns weights that are large enough to give distinct logits, and running statistics other than
/// 0 and 1.
fn tensors(config: &VggConfig) -> BTreeMap<String, Tensor> {
    let tensors = vgg::init::from_scratch(config, 5, &CPU).expect("a narrow network");
    let varied = |(name, tensor): (String, Tensor)| {
        let count = tensor.elem_count();
        let noise = (0..count).map(|index| ((index * 7919 + name.len()) % 101) as f32 / 202.0);
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

fn images(count: usize, side: usize) -> (Vec<f32>, Tensor) {
    let values =
        (0..count * 3 * side * side).map(|index| ((index * 7919) % 1000) as f32 / 500.0 - 1.0);
    let values: Vec<f32> = values.collect();
    let shape = (count, 3, side, side);
    let tensor = Tensor::from_vec(values.clone(), shape, &CPU).expect("images");
    (values, tensor)
}

fn run(model: &rten::Model, images: &[f32], count: usize, side: usize) -> Vec<f32> {
    let x = ValueView::from_shape([count, 3, side, side], images).expect("images");
    match model.run_one(x.into(), None).expect("a run") {
        Value::FloatTensor(tensor) => tensor.into_data(),
        value => panic!("{value:?}"),
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

fn assert_close(actual: &[f32], expected: &[f32], case: &str) {
    assert_eq!(actual.len(), expected.len(), "{case}");
    let largest = expected
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 1e-3, "{case}: all values are near 0");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(
            (actual - expected).abs() <= 1e-4 * largest,
            "{case}: {actual} {expected}"
        );
    }
}

#[test]
fn onnx_files_compute_the_same_logits_in_another_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    for (case, config) in [
        ("no pool", plain(2, 64)),
        ("a pool that enlarges", plain(7, 100)),
        ("a pool with uneven windows", plain(2, 96)),
        ("batch norm", with_batch_norm()),
    ] {
        let (tensors, side) = (tensors(&config), config.input_size);
        onnx::save(&path, &tensors, &metadata(&config), Output::Logits).expect("a file");
        let model = rten::Model::load_file(&path).expect("a valid ONNX model");
        for count in [1, 3] {
            let (x, images) = images(count, side);
            let logits = network(&config, &tensors)
                .forward(&images, Mode::Eval)
                .expect("logits");
            assert_close(&run(&model, &x, count, side), &values(&logits), case);
        }
    }
}

#[test]
fn onnx_files_contain_softmax_and_metadata_and_are_deterministic() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, config) = (folder.path().join("model.onnx"), plain(2, 64));
    let tensors = tensors(&config);
    let save = || {
        onnx::save(&path, &tensors, &metadata(&config), Output::Probabilities).expect("a file");
        std::fs::read(&path).expect("a file")
    };
    assert!(save() == save());
    let model = rten::Model::load_file(&path).expect("a valid ONNX model");
    let (x, images) = images(2, 64);
    let logits = network(&config, &tensors)
        .forward(&images, Mode::Eval)
        .expect("logits");
    let expected = candle_nn::ops::softmax(&logits, D::Minus1).expect("probabilities");
    assert_close(&run(&model, &x, 2, 64), &values(&expected), "probabilities");
    let metadata_strings = model.metadata();
    let classes: Vec<String> =
        serde_json::from_str(metadata_strings.get("classes").expect("classes")).expect("JSON");
    assert_eq!(classes, metadata(&config).classes);
    let mean: Vec<f32> =
        serde_json::from_str(metadata_strings.get("mean").expect("a mean")).expect("JSON");
    assert_eq!(mean, [0.485, 0.456, 0.406]);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
}

#[test]
fn onnx_probabilities_are_calibrated_and_logits_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, config) = (folder.path().join("model.onnx"), plain(2, 64));
    let tensors = tensors(&config);
    let metadata = Metadata {
        temperature: 2.5,
        ..metadata(&config)
    };
    let (x, images) = images(2, 64);
    let logits = network(&config, &tensors)
        .forward(&images, Mode::Eval)
        .expect("logits");
    let scaled = (&logits / 2.5).expect("logits");
    let probabilities = candle_nn::ops::softmax(&scaled, D::Minus1).expect("probabilities");
    for (output, expected) in [
        (Output::Logits, logits),
        (Output::Probabilities, probabilities),
    ] {
        onnx::save(&path, &tensors, &metadata, output).expect("a file");
        let model = rten::Model::load_file(&path).expect("a valid ONNX model");
        assert_close(&run(&model, &x, 2, 64), &values(&expected), output.name());
        assert_eq!(model.metadata().get("temperature"), Some("2.5"));
    }
}

#[test]
fn tensors_in_the_format_of_timm_are_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    for config in [plain(2, 64), with_batch_norm()] {
        let tensors = tensors(&config);
        let converted = timm::to_timm(&tensors, &config).expect("converted tensors");
        assert_eq!(converted["pre_logits.fc1.weight"].dims(), [16, 8, 2, 2]);
        assert_eq!(converted["pre_logits.fc2.weight"].dims(), [16, 16, 1, 1]);
        assert_eq!(converted["head.fc.weight"].dims(), [3, 16]);
        candle_core::safetensors::save(&converted.into_iter().collect(), &path).expect("a file");
        let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
        assert!(loaded.report.initialized.is_empty());
        for (name, tensor) in &tensors {
            assert_eq!(values(tensor), values(&loaded.tensors[name]), "{name}");
        }
    }
}

#[test]
fn an_architecture_that_timm_does_not_have_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, config) = (folder.path().join("timm"), plain(2, 64));
    let error =
        timm::save(&out, &tensors(&config), &metadata(&config)).expect_err("no such architecture");
    assert!(matches!(error, Error::Export { .. }));
    assert!(
        error
            .to_string()
            .contains("timm has no architecture `slim_vgg16`"),
        "{error}"
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn tensors_of_another_shape_are_not_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, config) = (folder.path().join("out"), VggConfig::vgg11(3));
    let shapes = config.tensor_shapes().expect("a valid configuration");
    // A tensor that repeats one element takes no memory.
    let zero = Tensor::zeros(1, DType::F32, &CPU).expect("a tensor");
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let shape = if name == "features.0.bias" {
            vec![65]
        } else {
            shape
        };
        (name, zero.broadcast_as(shape).expect("a tensor"))
    });
    let (tensors, metadata) = (tensors.collect(), metadata(&config));
    for error in [
        timm::save(&out, &tensors, &metadata).expect_err("timm"),
        onnx::save(&out, &tensors, &metadata, Output::Logits).expect_err("ONNX"),
        vgg::save(&out, &tensors, &metadata).expect_err("safetensors"),
    ] {
        let message = error.to_string();
        assert!(
            message.ends_with("`features.0.bias` has shape [65] instead of [64]"),
            "{message}"
        );
        assert!(!out.exists());
    }
}
