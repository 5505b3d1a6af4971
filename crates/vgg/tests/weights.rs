//! Tests of loading and saving weights: loaded and newly initialized tensors, conversions, and
//! errors for invalid files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use vgg::{Error, Features, Head, Metadata, Vgg, VggConfig, names};

type Tensors = BTreeMap<String, Tensor>;

const CPU: Device = Device::Cpu;

fn narrow(classes: usize) -> VggConfig {
    VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, classes)
}

/// The configuration with a small classifier.
fn small(config: VggConfig) -> VggConfig {
    VggConfig {
        hidden: 2,
        avgpool: 1,
        ..config
    }
}

fn initialized(config: &VggConfig) -> Tensors {
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
        temperature: 1.0,
    }
}

fn write(folder: &Path, tensors: &Tensors) -> PathBuf {
    let path = folder.join("weights.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).expect("a file");
    path
}

fn saved(folder: &Path, config: &VggConfig) -> PathBuf {
    let path = folder.join("model.safetensors");
    vgg::save(&path, &initialized(config), &metadata(config)).expect("a saved model");
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
fn a_saved_model_is_loaded_unchanged() {
    let (folder, config) = (folder(), narrow(3));
    let path = saved(folder.path(), &config);
    let model = vgg::load_model(&path, &CPU).expect("the model");
    assert_eq!(model.metadata, metadata(&config));
    for (name, tensor) in initialized(&config) {
        assert_eq!(values(&tensor), values(&model.tensors[&name]), "{name}");
    }
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    assert_eq!(entries.count(), 1, "a temporary file remains");
}

#[test]
fn saving_is_deterministic_and_the_file_is_valid_safetensors() {
    let (first, second, config) = (folder(), folder(), narrow(3));
    let read = |folder: &tempfile::TempDir| std::fs::read(saved(folder.path(), &config));
    let bytes = read(&first).expect("a file");
    assert_eq!(bytes, read(&second).expect("a file"));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut names: Vec<_> = file.names();
    names.sort_unstable();
    let mut expected = config.tensor_shapes().expect("narrow");
    expected.sort();
    assert_eq!(
        names,
        expected
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
    );
}

#[test]
fn weights_in_the_format_of_timm_are_converted() {
    let (folder, config) = (folder(), narrow(3));
    let tensors = initialized(&config);
    let converted = tensors.iter().map(|(name, tensor)| {
        let tensor = match name.as_str() {
            "classifier.0.weight" => tensor.reshape((16, 8, 2, 2)),
            "classifier.3.weight" => tensor.reshape((16, 16, 1, 1)),
            _ => Ok(tensor.clone()),
        };
        (names::to_timm(name), tensor.expect("as a convolution"))
    });
    let path = write(folder.path(), &converted.collect());
    let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
    assert!(loaded.report.initialized.is_empty());
    for (name, tensor) in tensors {
        assert_eq!(values(&tensor), values(&loaded.tensors[&name]), "{name}");
    }
}

#[test]
fn half_precision_is_converted_to_f32() {
    for dtype in [DType::F16, DType::BF16] {
        let (folder, config) = (folder(), narrow(3));
        let halves: Tensors = initialized(&config)
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
fn the_head_is_replaced_for_other_classes_or_on_request() {
    let (folder, config) = (folder(), narrow(3));
    let path = write(folder.path(), &initialized(&config));
    let other = vgg::load_pretrained(&path, &narrow(2), Head::Keep, 1, &CPU).expect("weights");
    assert_eq!(other.report.initialized_layers(), ["classifier.6"]);
    assert_eq!(other.report.mismatched.len(), 2);
    let same = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).expect("weights");
    assert_eq!(
        same.report.replaced,
        ["classifier.6.weight", "classifier.6.bias"]
    );
    let again = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).expect("weights");
    let head = "classifier.6.weight";
    assert_eq!(values(&same.tensors[head]), values(&again.tensors[head]));
    let seeded = vgg::load_pretrained(&path, &config, Head::Replace, 2, &CPU).expect("weights");
    assert_ne!(values(&same.tensors[head]), values(&seeded.tensors[head]));
}

#[test]
fn the_classifier_is_initialized_if_the_file_has_only_features() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = initialized(&config);
    tensors.retain(|name, _| name.starts_with("features."));
    let path = write(folder.path(), &tensors);
    let loaded = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).expect("weights");
    let classifier = ["classifier.0", "classifier.3", "classifier.6"];
    assert_eq!(loaded.report.initialized_layers(), classifier);
    assert_eq!(loaded.report.loaded.len(), 26);
}

#[test]
fn the_backbone_alone_computes_the_features_of_the_network() {
    let with_batch_norm = VggConfig {
        batch_norm: true,
        ..narrow(3)
    };
    for config in [narrow(3), with_batch_norm] {
        let folder = folder();
        let features = Features::load(saved(folder.path(), &config), &CPU).expect("a backbone");
        assert_eq!(features.config(), &config);
        let network = Vgg::from_tensors(&config, initialized(&config), &CPU).expect("a network");
        let pixels = (0..2 * 3 * 64 * 64).map(|index| (index * 7919 % 1000) as f32 / 500.0 - 1.0);
        let x = Tensor::from_vec(pixels.collect(), (2, 3, 64, 64), &CPU).expect("images");
        let y = features.forward(&x).expect("features");
        assert_eq!(y.dims(), [2, 8, 2, 2]);
        let expected = network.features(&x).expect("features");
        assert_eq!(values(&y), values(&expected));
        let error = features.forward(&y).expect_err("not images").to_string();
        assert!(error.contains("needs images (B, 3, H, W)"), "{error}");
    }
}

#[test]
fn the_backbone_is_detected_if_there_is_no_metadata() {
    let folder = folder();
    let mut tensors = initialized(&small(VggConfig::vgg11(2)));
    // The classifier is not read, so its values do not matter.
    let invalid = Tensor::full(f32::NAN, 5, &CPU).expect("a tensor");
    tensors.insert("classifier.6.bias".into(), invalid);
    let path = write(folder.path(), &tensors);
    let features = Features::load(&path, &CPU).expect("a backbone");
    assert_eq!(features.config(), &VggConfig::vgg11(1000));

    tensors.insert("other".into(), tensors["features.0.bias"].clone());
    Features::load(write(folder.path(), &tensors), &CPU).expect("a backbone");
    tensors.insert(
        "features.99.bias".into(),
        tensors["features.0.bias"].clone(),
    );
    let error = Features::load(write(folder.path(), &tensors), &CPU).expect_err("unexpected");
    assert!(matches!(error, Error::UnexpectedTensors { .. }), "{error}");

    let narrow = write(folder.path(), &initialized(&narrow(3)));
    assert_eq!(vgg::detect_architecture(&narrow).expect("weights"), None);
    let error = Features::load(&narrow, &CPU).expect_err("not a named architecture");
    assert!(matches!(error, Error::Undetected { .. }), "{error}");
    assert!(error.help().expect("help").ends_with("vgg19, vgg19_bn"));
}

#[test]
fn another_architecture_is_an_error() {
    let folder = folder();
    let path = write(folder.path(), &initialized(&small(VggConfig::vgg11(2))));
    let error = vgg::load_pretrained(&path, &small(VggConfig::vgg13(2)), Head::Replace, 1, &CPU);
    let error = error.expect_err("another architecture");
    let message = error.to_string();
    assert!(
        message.ends_with("weights.safetensors contains weights of vgg11, not vgg13"),
        "{message}"
    );
    let Error::WrongArchitecture {
        expected, actual, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((expected.as_str(), actual.as_str()), ("vgg13", "vgg11"));
}

#[test]
fn unexpected_tensors_are_an_error_with_similar_names() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = initialized(&config);
    let bias = tensors["classifier.6.bias"].clone();
    tensors.remove("classifier.6.bias");
    tensors.insert("clasifier.6.bias".into(), bias);
    let path = write(folder.path(), &tensors);
    let error = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU);
    let message = error.expect_err("unexpected").to_string();
    assert!(
        message.contains("clasifier.6.bias (did you mean classifier.6.bias?)"),
        "{message}"
    );
}

#[test]
fn a_missing_convolution_is_an_error() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = initialized(&config);
    tensors.remove("features.28.bias");
    let path = write(folder.path(), &tensors);
    let error = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU);
    let message = error.expect_err("incomplete").to_string();
    assert!(message.contains("features.28.bias"), "{message}");
}

#[test]
fn an_empty_file_is_called_empty_whatever_its_extension() {
    let folder = folder();
    for name in ["x.pth", "x.safetensors", "x.onnx", "x"] {
        let path = folder.path().join(name);
        std::fs::write(&path, b"").expect("a file");
        let config = narrow(3);
        for error in [
            vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).map(drop),
            vgg::load_model(&path, &CPU).map(drop),
            vgg::read_metadata(&path).map(drop),
        ] {
            let error = error.expect_err("an empty file");
            let expected = format!("{} is an empty file, not a weights file", path.display());
            assert_eq!(error.to_string(), expected);
            assert!(error.help().is_some_and(|help| help.contains("again")));
        }
    }
}

#[test]
fn truncated_and_corrupt_files_are_errors() {
    let (folder, config) = (folder(), narrow(3));
    let path = saved(folder.path(), &config);
    let bytes = std::fs::read(&path).expect("a file");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let broken = folder.path().join("broken.safetensors");
    for length in [7, 8, 100, header, header + 1, bytes.len() - 1] {
        std::fs::write(&broken, &bytes[..length]).expect("a file");
        let error = vgg::load_model(&broken, &CPU).expect_err("a broken file");
        assert!(
            matches!(error, Error::NotSafetensors { .. }),
            "{length}: {error}"
        );
        assert!(error.to_string().contains("broken.safetensors"), "{error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [longer, huge] {
        std::fs::write(&broken, bytes).expect("a file");
        let error = vgg::load_model(&broken, &CPU).expect_err("a broken file");
        assert!(matches!(error, Error::NotSafetensors { .. }), "{error}");
    }
    std::fs::write(&broken, "{\"not\": \"safetensors\"}").expect("a file");
    let error = vgg::load_model(&broken, &CPU).expect_err("a text file");
    assert!(matches!(error, Error::NotWeights { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("is a JSON file, not a weights file"),
        "{error}"
    );
    let missing = vgg::load_model(folder.path().join("none"), &CPU);
    assert!(matches!(missing, Err(Error::Io { .. })));
    let error = vgg::load_model(folder.path(), &CPU).expect_err("a folder");
    assert!(
        error.to_string().ends_with(": not a regular file"),
        "{error}"
    );
    let directory = vgg::load_model(folder.path(), &CPU);
    assert!(directory.is_err());
}

/// Rewrites the saved model at `path` with some metadata strings replaced.
fn replace_strings(path: &Path, config: &VggConfig, replaced: &[(&str, &str)]) {
    let bytes = std::fs::read(path).expect("a file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let mut strings = header.metadata().clone().expect("metadata");
    for (key, value) in replaced {
        strings.insert((*key).into(), (*value).into());
    }
    safetensors::serialize_to_file(initialized(config), Some(strings), path).expect("a file");
}

#[test]
fn a_file_without_a_temperature_has_the_temperature_1() {
    let (folder, config) = (folder(), narrow(3));
    let path = folder.path().join("model.safetensors");
    let tensors = initialized(&config);
    for (temperature, text) in [
        (1.0, None),
        (1.0249638798510865, Some("1.0249638798510865")),
    ] {
        let metadata = Metadata {
            temperature,
            ..metadata(&config)
        };
        vgg::save(&path, &tensors, &metadata).expect("a file");
        let bytes = std::fs::read(&path).expect("a file");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let strings = header.metadata().as_ref().expect("metadata");
        assert_eq!(strings.get("temperature").map(String::as_str), text);
        assert_eq!(
            vgg::load_model(&path, &CPU).expect("a model").metadata,
            metadata
        );
    }
}

#[test]
fn inconsistent_metadata_is_an_error() {
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
            "lists 2 classes, but the network has 3",
        ),
        (
            vec![("classes", r#"["a", "b"]"#), ("config", &two)],
            "tensor `classifier.6.weight` has shape [3, 16]",
        ),
        (
            vec![("config", &huge)],
            "is 1000000, but must be between 32 and 4096",
        ),
        (vec![("config", "{}")], "`config`"),
        (vec![("std", "[0, 1, 1]")], "std [0.0, 1.0, 1.0]"),
        (vec![("mean", "[0.5]")], "`mean`"),
    ] {
        let path = saved(folder.path(), &config);
        replace_strings(&path, &config, &replaced);
        let error = vgg::load_model(&path, &CPU).expect_err("inconsistent metadata");
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn weights_without_metadata_are_not_a_model() {
    let folder = folder();
    let path = write(folder.path(), &initialized(&narrow(3)));
    let error = vgg::load_model(&path, &CPU).expect_err("no metadata");
    assert!(matches!(error, Error::NoMetadata { .. }), "{error}");
}

#[test]
fn a_failed_save_leaves_no_file() {
    let (folder, config) = (folder(), narrow(3));
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").expect("a file");
    let below = file.join("model.safetensors");
    let error = vgg::save(&below, &initialized(&config), &metadata(&config));
    assert!(matches!(error, Err(Error::Io { .. })));
    let mut incomplete = initialized(&config);
    incomplete.remove("features.0.bias");
    let path = folder.path().join("model.safetensors");
    let error = vgg::save(&path, &incomplete, &metadata(&config));
    assert!(matches!(error, Err(Error::Export { .. })));
    assert!(!path.exists());
}

#[test]
fn non_finite_values_of_any_dtype_are_errors() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (folder, config) = (folder(), narrow(3));
            let mut tensors: Tensors = initialized(&config)
                .into_iter()
                .map(|(name, tensor)| (name, tensor.to_dtype(dtype).expect("a float type")))
                .collect();
            let shape = tensors["features.2.bias"].shape().clone();
            let bad = Tensor::full(value, shape, &CPU).expect("a tensor");
            let bad = bad.to_dtype(dtype).expect("a float type");
            tensors.insert("features.2.bias".into(), bad);
            let path = write(folder.path(), &tensors);
            let error = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect_err("bad");
            let Error::NonFinite { tensor, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(tensor, "features.2.bias");
        }
    }
}

#[test]
fn at_most_20_unexpected_tensors_are_listed() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = initialized(&config);
    let extra = Tensor::zeros(1, DType::F32, &CPU).expect("a tensor");
    let names = (100..123).map(|index| format!("features.{index}.bias"));
    tensors.extend(names.map(|name| (name, extra.clone())));
    let path = write(folder.path(), &tensors);
    let result = vgg::load_pretrained(&path, &config, Head::Keep, 5, &CPU);
    let Err(Error::UnexpectedTensors { tensors, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(tensors.len(), 21);
    assert_eq!(tensors[20], "and 3 more");
}

/// The tensors with a prefix before each name.
fn prefixed(prefix: &str, tensors: &Tensors) -> Tensors {
    let tensors = tensors.iter();
    let rename = |(name, tensor): (&String, &Tensor)| (format!("{prefix}{name}"), tensor.clone());
    tensors.map(rename).collect()
}

#[test]
fn any_common_prefix_is_found() {
    let config = narrow(3);
    let tensors = initialized(&config);
    for prefix in [
        "net.",
        "backbone.",
        "module.model.",
        "_orig_mod.",
        "encoder.q.",
        "a b.c-d.",
    ] {
        let folder = folder();
        let mut file = prefixed(prefix, &tensors);
        for name in ["criterion.weight", "head_aux.bias", "x.num_batches_tracked"] {
            let name = format!("{prefix}{name}");
            file.insert(name, tensors["features.0.bias"].clone());
        }
        file.insert(
            "criterion.weight".into(),
            tensors["features.0.bias"].clone(),
        );
        let path = write(folder.path(), &file);
        let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect(prefix);
        assert!(loaded.report.initialized.is_empty(), "{prefix}");
        assert_eq!(loaded.report.key, prefix.trim_end_matches('.'));
        let mut unused = [
            "criterion.weight".to_string(),
            format!("{prefix}criterion.weight"),
            format!("{prefix}head_aux.bias"),
        ];
        unused.sort();
        assert_eq!(loaded.report.unused, unused);
        for (name, tensor) in &tensors {
            assert_eq!(
                values(tensor),
                values(&loaded.tensors[name]),
                "{prefix}{name}"
            );
        }
    }
}

#[test]
fn wrapped_or_missing_features_are_found() {
    let config = narrow(3);
    let tensors = initialized(&config);
    let rename = |to: &str| -> Tensors {
        let tensors = tensors.iter();
        let rename = |(name, tensor): (&String, &Tensor)| {
            (name.replacen("features.", to, 1), tensor.clone())
        };
        let is_kept =
            |(name, _): &(String, Tensor)| to == "features.module." || !name.contains("classifier");
        tensors.map(rename).filter(is_kept).collect()
    };
    // `DataParallel` around `features` alone, as in PyTorch's ImageNet example, and the state dict of
    // `model.features`, by itself and as a field.
    for (to, layers) in [
        ("features.module.", vec![]),
        ("", vec!["classifier.0", "classifier.3", "classifier.6"]),
        (
            "net.vgg.",
            vec!["classifier.0", "classifier.3", "classifier.6"],
        ),
    ] {
        let folder = folder();
        let path = write(folder.path(), &rename(to));
        let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect(to);
        assert_eq!(loaded.report.initialized_layers(), layers, "{to}");
        let name = "features.28.weight";
        assert_eq!(
            values(&tensors[name]),
            values(&loaded.tensors[name]),
            "{to}"
        );
    }
}

#[test]
fn the_usual_weights_are_used_and_others_can_be_chosen() {
    let config = narrow(3);
    let (usual, other) = (
        initialized(&config),
        vgg::init::from_scratch(&config, 6, &CPU).expect("a narrow network"),
    );
    let head = "features.0.weight";
    for (first, second) in [
        ("", "ema."),
        ("model.", "model_ema."),
        ("state_dict.", "state_dict_ema."),
        ("state_dict.", "model."),
        ("model.module.", "ema.module."),
        ("", "module."),
    ] {
        let folder = folder();
        let mut file = prefixed(first, &usual);
        file.extend(prefixed(second, &other));
        let path = write(folder.path(), &file);
        let load = |path: &Path| vgg::load_pretrained(path, &config, Head::Keep, 1, &CPU);
        let loaded = load(&path).expect(first);
        assert_eq!(
            values(&loaded.tensors[head]),
            values(&usual[head]),
            "{first}"
        );
        let key = second.trim_end_matches('.');
        assert_eq!(loaded.report.other_keys, [key], "{first}");
        // The first key is enough if there is one network inside.
        for key in [key, key.split('.').next().expect("a key")] {
            let chosen = folder.path().join(format!("weights.safetensors#{key}"));
            let loaded = load(&chosen).expect(key);
            assert_eq!(values(&loaded.tensors[head]), values(&other[head]), "{key}");
            // Weights without a key cannot be chosen by one.
            assert!(!loaded.report.other_keys.contains(&String::new()), "{key}");
        }
        let missing = folder.path().join("weights.safetensors#none");
        let error = load(&missing).expect_err("no such key");
        assert!(matches!(error, Error::NoKey { .. }), "{error}");
        let help = error.help().expect("help");
        assert!(help.contains(key) && !help.contains(" ,"), "{help}");
    }
}

#[test]
fn a_file_whose_name_contains_a_number_sign_is_not_a_key() {
    let (folder, config) = (folder(), narrow(3));
    let path = write(folder.path(), &initialized(&config));
    let named = folder.path().join("weights.safetensors#1");
    std::fs::rename(path, &named).expect("a new name");
    vgg::load_pretrained(&named, &config, Head::Keep, 1, &CPU).expect("weights");
    let chosen = folder.path().join("weights.safetensors#1#none");
    let error = vgg::load_pretrained(chosen, &config, Head::Keep, 1, &CPU);
    assert!(matches!(error, Err(Error::NoKey { .. })), "{error:?}");
}

#[test]
fn several_networks_without_a_usual_name_are_an_error_with_their_keys() {
    let (folder, config) = (folder(), narrow(3));
    let mut file = prefixed("generator.", &initialized(&config));
    file.extend(prefixed("discriminator.", &initialized(&config)));
    let path = write(folder.path(), &file);
    let error = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect_err("two");
    let message = error.to_string();
    assert!(
        message.ends_with("the weights of several networks: discriminator, generator"),
        "{message}"
    );
    assert!(
        error
            .help()
            .expect("help")
            .ends_with("weights.safetensors#discriminator`")
    );
}

#[test]
fn a_misspelled_name_with_a_prefix_is_named_in_the_message() {
    let (folder, config) = (folder(), narrow(3));
    let mut tensors = prefixed("net.", &initialized(&config));
    tensors.remove("net.features.28.bias");
    let path = write(folder.path(), &tensors);
    let error = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect_err("missing");
    assert!(
        error.to_string().contains("`net.features.28.bias`"),
        "{error}"
    );
}

#[test]
fn float64_is_narrowed() {
    let (folder, config) = (folder(), narrow(3));
    let mut doubles: Tensors = initialized(&config)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_dtype(DType::F64).expect("float64")))
        .collect();
    let path = write(folder.path(), &doubles);
    let loaded = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect("weights");
    assert_eq!(loaded.report.narrowed.len(), 32);
    for (name, tensor) in initialized(&config) {
        assert_eq!(values(&tensor), values(&loaded.tensors[&name]), "{name}");
    }
    // A value beyond the range of float32.
    let huge = Tensor::full(1e300f64, 4, &CPU).expect("a tensor");
    doubles.insert("features.0.bias".into(), huge);
    let path = write(folder.path(), &doubles);
    let error = vgg::load_pretrained(&path, &config, Head::Keep, 1, &CPU).expect_err("infinite");
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
}

#[test]
fn a_classifier_with_another_structure_is_replaced() {
    let config = narrow(3);
    for layer in [
        "classifier",
        "classifier.1",
        "classifier.6.0",
        "fc",
        "head.1",
    ] {
        let folder = folder();
        let mut tensors = initialized(&config);
        tensors.retain(|name, _| !name.starts_with("classifier.6."));
        let weight = tensors["features.0.bias"].clone();
        tensors.insert(format!("{layer}.weight"), weight.clone());
        tensors.insert(format!("{layer}.bias"), weight);
        let path = write(folder.path(), &tensors);
        let loaded = vgg::load_pretrained(&path, &config, Head::Replace, 1, &CPU).expect(layer);
        assert_eq!(
            loaded.report.initialized_layers(),
            ["classifier.6"],
            "{layer}"
        );
        let unused = [format!("{layer}.bias"), format!("{layer}.weight")];
        assert_eq!(loaded.report.unused, unused);
    }
}
