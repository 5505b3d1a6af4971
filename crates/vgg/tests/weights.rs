//! Weights in and out: what is taken, what is fresh, and what every kind of bad file is answered with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use vgg::{Error, Head, Metadata, VggConfig, names};

type Tensors = BTreeMap<String, Tensor>;

const CPU: Device = Device::Cpu;

fn narrow(classes: usize) -> VggConfig {
    VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, classes)
}

fn scratch(config: &VggConfig) -> Tensors {
    vgg::init::from_scratch(config, 5, &CPU).expect("a narrow network")
}

fn metadata(config: &VggConfig) -> Metadata {
    Metadata {
        config: config.clone(),
        classes: (0..config.classes)
            .map(|class| format!("class {class}"))
            .collect(),
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

fn write(folder: &Path, tensors: &Tensors) -> PathBuf {
    let path = folder.join("weights.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).expect("a file");
    path
}

fn saved(folder: &Path, config: &VggConfig) -> PathBuf {
    let path = folder.join("model.safetensors");
    vgg::save(&path, &scratch(config), &metadata(config)).expect("a saved model");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

#[test]
fn a_model_comes_back_as_it_was_saved() {
    let (folder, config) = (folder(), narrow(3));
    let path = saved(folder.path(), &config);
    let model = vgg::load_model(&path, &CPU).expect("the model");
    assert_eq!(model.metadata, metadata(&config));
    for (name, tensor) in scratch(&config) {
        assert_eq!(values(&tensor), values(&model.tensors[&name]), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 1, "something was left beside the model");
}

#[test]
fn the_same_model_is_the_same_bytes_and_other_readers_accept_it() {
    let (one, two, config) = (folder(), folder(), narrow(3));
    let read = |folder: &tempfile::TempDir| std::fs::read(saved(folder.path(), &config));
    let bytes = read(&one).expect("a file");
    assert_eq!(bytes, read(&two).expect("a file"));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut found: Vec<_> = file.names();
    found.sort_unstable();
    let mut expected = config.parameters().expect("narrow");
    expected.sort();
    assert_eq!(
        found,
        expected
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
    );
}

#[test]
fn timm_names_and_shapes_are_torchvisions_weights() {
    let (folder, config) = (folder(), narrow(3));
    let ours = scratch(&config);
    let theirs = ours.iter().map(|(name, tensor)| {
        let tensor = match name.as_str() {
            "classifier.0.weight" => tensor.reshape((16, 8, 2, 2)),
            "classifier.3.weight" => tensor.reshape((16, 16, 1, 1)),
            _ => Ok(tensor.clone()),
        };
        (names::timm(name), tensor.expect("as a convolution"))
    });
    let path = write(folder.path(), &theirs.collect());
    let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
    assert!(loaded.report.fresh.is_empty());
    for (name, tensor) in ours {
        assert_eq!(values(&tensor), values(&loaded.tensors[&name]), "{name}");
    }
}

#[test]
fn half_precision_is_widened() {
    for dtype in [DType::F16, DType::BF16] {
        let (folder, config) = (folder(), narrow(3));
        let halves: Tensors = scratch(&config)
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).expect("half")))
            .collect();
        let path = write(folder.path(), &halves);
        let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
        for (name, half) in halves {
            let expected = half.to_dtype(DType::F32).expect("f32");
            assert_eq!(values(&expected), values(&loaded.tensors[&name]), "{name}");
        }
    }
}

#[test]
fn the_head_is_fresh_for_other_classes_or_by_request() {
    let (folder, config) = (folder(), narrow(3));
    let path = write(folder.path(), &scratch(&config));
    let other = vgg::load_pretrained(&path, &narrow(2), Head::Keep, 1, &CPU).expect("weights");
    assert_eq!(other.report.fresh_layers(), ["classifier.6"]);
    assert_eq!(other.report.mismatched.len(), 2);
    let same = vgg::load_pretrained(&path, &config, Head::Fresh, 1, &CPU).expect("weights");
    assert_eq!(
        same.report.unused,
        ["classifier.6.weight", "classifier.6.bias"]
    );
    let again = vgg::load_pretrained(&path, &config, Head::Fresh, 1, &CPU).expect("weights");
    let head = "classifier.6.weight";
    assert_eq!(values(&same.tensors[head]), values(&again.tensors[head]));
    let seeded = vgg::load_pretrained(&path, &config, Head::Fresh, 2, &CPU).expect("weights");
    assert_ne!(values(&same.tensors[head]), values(&seeded.tensors[head]));
}

#[test]
fn features_alone_leave_the_classifier_fresh() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = scratch(&config);
    tensors.retain(|name, _| name.starts_with("features."));
    let path = write(folder.path(), &tensors);
    let loaded = vgg::load_pretrained(&path, &config, Head::Fresh, 1, &CPU).expect("weights");
    let classifier = ["classifier.0", "classifier.3", "classifier.6"];
    assert_eq!(loaded.report.fresh_layers(), classifier);
    assert_eq!(loaded.report.loaded.len(), 26);
}

#[test]
fn another_network_is_named() {
    let folder = folder();
    let small = |config: VggConfig| VggConfig {
        hidden: 2,
        avgpool: 1,
        ..config
    };
    let path = write(folder.path(), &scratch(&small(VggConfig::vgg11(2))));
    let error = vgg::load_pretrained(&path, &small(VggConfig::vgg13(2)), Head::Fresh, 1, &CPU);
    let message = error.expect_err("another network").to_string();
    assert!(message.contains("this is a vgg11"), "{message}");
    assert!(message.contains("--arch vgg11"), "{message}");
}

#[test]
fn unexpected_and_misspelt_tensors_are_named() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = scratch(&config);
    let misspelt = tensors["classifier.6.bias"].clone();
    tensors.insert("clasifier.6.bias".into(), misspelt);
    let path = write(folder.path(), &tensors);
    let error = vgg::load_pretrained(&path, &config, Head::Fresh, 1, &CPU);
    let message = error.expect_err("unexpected").to_string();
    assert!(
        message.contains("clasifier.6.bias (did you mean classifier.6.bias?)"),
        "{message}"
    );
}

#[test]
fn a_missing_convolution_is_named() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = scratch(&config);
    tensors.remove("features.28.bias");
    let path = write(folder.path(), &tensors);
    let error = vgg::load_pretrained(&path, &config, Head::Fresh, 1, &CPU);
    let message = error.expect_err("incomplete").to_string();
    assert!(message.contains("features.28.bias"), "{message}");
}

#[test]
fn broken_files_are_recognised_wherever_they_break() {
    let (folder, config) = (folder(), narrow(3));
    let path = saved(folder.path(), &config);
    let whole = std::fs::read(&path).expect("a file");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    let broken = folder.path().join("broken.safetensors");
    for length in [0, 7, 8, 100, header, header + 1, whole.len() - 1] {
        std::fs::write(&broken, &whole[..length]).expect("a file");
        let error = vgg::load_model(&broken, &CPU).expect_err("a broken file");
        assert!(
            matches!(error, Error::NotSafetensors { .. }),
            "{length}: {error}"
        );
        assert!(error.to_string().contains("broken.safetensors"), "{error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [longer, huge] {
        std::fs::write(&broken, bytes).expect("a file");
        let error = vgg::load_model(&broken, &CPU).expect_err("a broken file");
        assert!(matches!(error, Error::NotSafetensors { .. }), "{error}");
    }
    std::fs::write(&broken, "{\"not\": \"safetensors\"}").expect("a file");
    let error = vgg::load_model(&broken, &CPU).expect_err("a text");
    assert!(matches!(error, Error::NotWeights { .. }), "{error}");
    assert!(
        error.to_string().contains("is text, not weights"),
        "{error}"
    );
    let missing = vgg::load_model(&folder.path().join("none"), &CPU);
    assert!(matches!(missing, Err(Error::Io { .. })));
    let directory = vgg::load_model(folder.path(), &CPU);
    assert!(directory.is_err());
}

/// The saved model again, with some strings of its metadata replaced.
fn with_strings(path: &Path, config: &VggConfig, replaced: &[(&str, &str)]) {
    let bytes = std::fs::read(path).expect("a file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let mut strings = header.metadata().clone().expect("metadata");
    for (key, value) in replaced {
        strings.insert((*key).into(), (*value).into());
    }
    safetensors::serialize_to_file(scratch(config), Some(strings), path).expect("a file");
}

#[test]
fn metadata_that_contradicts_itself_or_the_head_is_refused() {
    let (folder, config) = (folder(), narrow(3));
    let two = serde_json::to_string(&narrow(2)).expect("json");
    let huge = VggConfig {
        input_size: 1_000_000,
        ..narrow(3)
    };
    let huge = serde_json::to_string(&huge).expect("json");
    for (replaced, expected) in [
        (
            vec![("classes", r#"["a", "b"]"#)],
            "a class list of length 2 for a network of 3",
        ),
        (
            vec![("classes", r#"["a", "b"]"#), ("config", &two)],
            "tensor classifier.6.weight is [3, 16]",
        ),
        (vec![("config", &huge)], "1000000x1000000"),
        (vec![("config", "{}")], "`config`"),
        (vec![("std", "[0, 1, 1]")], "std"),
        (vec![("mean", "[0.5]")], "`mean`"),
    ] {
        let path = saved(folder.path(), &config);
        with_strings(&path, &config, &replaced);
        let error = vgg::load_model(&path, &CPU).expect_err("a contradiction");
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn weights_without_metadata_are_no_model() {
    let folder = folder();
    let path = write(folder.path(), &scratch(&narrow(3)));
    let error = vgg::load_model(&path, &CPU).expect_err("no metadata");
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let (folder, config) = (folder(), narrow(3));
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("a file");
    let below = file.join("model.safetensors");
    let error = vgg::save(&below, &scratch(&config), &metadata(&config));
    assert!(matches!(error, Err(Error::Io { .. })));
    let mut incomplete = scratch(&config);
    incomplete.remove("features.0.bias");
    let path = folder.path().join("model.safetensors");
    let error = vgg::save(&path, &incomplete, &metadata(&config));
    assert!(matches!(error, Err(Error::Metadata { .. })));
    assert!(!path.exists());
}
