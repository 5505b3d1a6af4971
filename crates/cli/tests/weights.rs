//! Weights and models: `export`, batch norm, PyTorch state dicts, non-finite values, and weights from
//! the hub.

mod harness;

use std::process::Command;

use candle_core::{Device, Tensor};
use harness::{TestDir, json_lines, stdout_and_stderr};
use safetensors::SafeTensors;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Runs the finetune stage of a tiny network with batch norm, from `normed.safetensors`, in
/// `runs/train`. `epochs` includes the baseline.
fn trained(epochs: &str) -> TestDir {
    let dir = TestDir::with_stripes();
    dir.weights("normed.safetensors", 10, 24, true);
    let rates = "features=2e-2,classifier=2e-2";
    let run = "train --data data --weights normed.safetensors --stage finetune --batch-size 4";
    let mut arguments: Vec<&str> = run.split(' ').collect();
    arguments.extend(["--finetune-epochs", epochs, "--finetune-lr", rates]);
    dir.succeeds(&arguments);
    dir
}

#[test]
fn batch_norm_parameters_train_and_running_statistics_do_not_change() {
    let dir = trained("20");
    let model = |name: &str| {
        vgg::load_model(dir.path(name), &Device::Cpu)
            .unwrap()
            .tensors
    };
    let (before, after) = (
        model("normed.safetensors"),
        model("runs/train/model.safetensors"),
    );
    for layer in ["features.1", "features.5", "features.9"] {
        for name in ["weight", "bias", "running_mean", "running_var"] {
            let name = format!("{layer}.{name}");
            let unchanged = values(&before[&name]) == values(&after[&name]);
            assert_eq!(unchanged, name.contains("running"), "{name}");
        }
    }
    let out = dir.succeeds(&["predict", "runs/train", "data/val/vertical/00.png"]);
    assert!(
        out.contains("vertical") || out.contains("horizontal"),
        "{out}"
    );
}

#[test]
fn running_statistics_count_as_neither_trainable_nor_frozen() {
    let dir = TestDir::with_stripes();
    dir.weights("normed.safetensors", 10, 24, true);
    let run = "train --data data --weights normed.safetensors --stage finetune --batch-size 4 \
               --finetune-epochs 1 --finetune-lr features=1e-3,classifier=1e-3 --json";
    let arguments: Vec<&str> = run.split_whitespace().collect();
    let events = json_lines(&dir.succeeds(&arguments));
    let event = |name: &str| {
        let mut events = events.iter();
        events.find(|event| event["event"] == name).unwrap()
    };
    // The two learning-rate groups together cover all layers.
    let network = event("network");
    assert_eq!(network["trainable_parameters"], network["parameters"]);
    let stage = event("stage_start");
    assert_eq!(stage["trainable_parameters"], network["parameters"]);
    assert_eq!(stage["frozen_parameters"], 0);
}

#[test]
fn export_writes_next_to_the_model_or_to_out() {
    let dir = trained("1");
    let out = dir.succeeds(&["export", "runs/train", "--to", "onnx", "--softmax"]);
    assert_eq!(out, "Wrote runs/train/model.onnx\n");
    let onnx = dir.read("runs/train/model.onnx");
    let contains = |text: &str| {
        onnx.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(contains("probabilities") && contains(r#"["horizontal","vertical"]"#));

    dir.succeeds(&[
        "export",
        "runs/train",
        "--to",
        "safetensors",
        "--out",
        "new/copy.safetensors",
    ]);
    let copy = dir.read("new/copy.safetensors");
    assert!(copy == dir.read("runs/train/model.safetensors"));

    // An existing file is replaced only with --overwrite.
    dir.write("runs/train/model.onnx", b"existing");
    let again = ["export", "runs/train", "--to", "onnx", "--softmax"];
    let message = dir.fails(1, &again);
    assert_eq!(
        message,
        "error: `runs/train/model.onnx` already exists\n\
         help: pass another path with `--out`, or `--overwrite` to replace it\n"
    );
    assert_eq!(dir.read("runs/train/model.onnx"), b"existing");
    dir.succeeds(&[&again[..], &["--overwrite"]].concat());
    assert!(dir.read("runs/train/model.onnx") == onnx);

    // No architecture of timm is named `tiny`.
    let message = dir.fails(1, &["export", "runs/train", "--to", "timm"]);
    assert!(
        message.contains("timm has no architecture `tiny`"),
        "{message}"
    );
    let message = dir.fails(
        1,
        &["export", "runs/train", "--to", "safetensors", "--softmax"],
    );
    assert_eq!(
        message,
        "error: only the onnx format can include a softmax\n\
         help: pass `--to onnx`, or remove `--softmax`\n"
    );
    let model = "runs/train/./model.safetensors";
    let message = dir.fails(1, &["export", "runs/train", "--to", "onnx", "--out", model]);
    assert!(message.contains("is the model itself"), "{message}");
    let timm = "export runs/train --to timm --out runs/train --overwrite";
    let message = dir.fails(1, &timm.split(' ').collect::<Vec<_>>());
    assert!(message.contains("is the model itself"), "{message}");
    let message = dir.fails(1, &["export", "nowhere", "--to", "onnx"]);
    assert!(
        message.starts_with("error: no model `nowhere`\n"),
        "{message}"
    );
}

#[test]
fn batch_norm_without_pretrained_weights_is_an_error_with_help() {
    let dir = TestDir::with_stripes();
    let message = dir.fails(
        1,
        &[
            "train",
            "--data",
            "data",
            "--weights",
            "none",
            "--arch",
            "vgg11_bn",
        ],
    );
    assert!(message.contains("--arch vgg11"), "{message}");
}

#[test]
fn the_built_in_backbone_with_another_architecture_is_an_error() {
    let dir = TestDir::with_stripes();
    let arguments = [
        "train",
        "--data",
        "data",
        "--weights",
        "sample",
        "--arch",
        "vgg16",
    ];
    let error = dir.fails(1, &arguments);
    for part in [
        "the built-in backbone is a ",
        "not vgg16",
        "leave out `--arch`",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn state_dict_is_not_a_model_and_its_code_does_not_run() {
    let dir = TestDir::with_stripes();
    let evil = concat!(env!("CARGO_MANIFEST_DIR"), "/../vgg/tests/pth/evil.pth");
    let message = dir.fails(1, &["train", "--data", "data", "--weights", evil]);
    assert!(
        message.contains("posix.system") && message.contains("was not run"),
        "{message}"
    );
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/../vgg/tests/pth/plain.pth");
    for command in ["predict", "evaluate"] {
        let paths: &[&str] = if command == "predict" { &["data"] } else { &[] };
        let arguments = [&[command, plain], paths].concat();
        let message = dir.fails(1, &arguments);
        assert!(
            message.contains("weights but no model metadata"),
            "{message}"
        );
    }
}

/// Copies the safetensors file `from` to `to` and applies `change` to the values of `tensor`, an f32
/// tensor.
fn edit(dir: &TestDir, from: &str, to: &str, tensor: &str, change: impl FnOnce(&mut [f32])) {
    let mut bytes = dir.read(from);
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = metadata.info(tensor).unwrap().data_offsets;
    let bytes_of_tensor = &mut bytes[8 + header + start..8 + header + end];
    let values = bytes_of_tensor.chunks_exact(4);
    let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    let mut values: Vec<f32> = values.collect();
    change(&mut values);
    for (bytes, value) in bytes_of_tensor.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    dir.write(to, &bytes);
}

#[test]
fn non_finite_weights_are_errors_that_name_the_tensor() {
    let dir = trained("1");
    let model = "runs/train/model.safetensors";
    for (value, name) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let corrupt = |from: &str, tensor: &str| {
            edit(&dir, from, "bad.safetensors", tensor, |values| {
                *values.last_mut().unwrap() = value;
            });
        };
        let assert_refused = |tensor: &str, arguments: &[&str]| {
            let message = dir.fails(1, arguments);
            let expected = format!("bad.safetensors: tensor `{tensor}` contains {name}");
            assert!(message.contains(&expected), "{message}");
        };
        for tensor in [
            "features.4.weight",
            "features.1.running_mean",
            "classifier.6.bias",
        ] {
            corrupt(model, tensor);
            assert_refused(
                tensor,
                &["predict", "bad.safetensors", "data/val/vertical/00.png"],
            );
            assert_refused(tensor, &["evaluate", "bad.safetensors", "--data", "data"]);
            for format in ["safetensors", "onnx"] {
                let export = ["export", "bad.safetensors", "--to", format];
                assert_refused(tensor, &[&export[..], &["--out", "out/file"]].concat());
            }
            assert!(!dir.path("out").exists());
        }
        for tensor in ["features.0.bias", "classifier.3.weight"] {
            corrupt("normed.safetensors", tensor);
            let train = ["train", "--data", "data", "--weights", "bad.safetensors"];
            assert_refused(tensor, &train);
        }
        assert!(!dir.path("runs/train-2").exists());
    }
}

#[test]
fn non_finite_values_in_a_replaced_head_are_ignored() {
    let dir = TestDir::with_stripes();
    edit(
        &dir,
        "tiny.safetensors",
        "tiny.safetensors",
        "classifier.6.bias",
        |values| values.fill(f32::NAN),
    );
    let train = "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    dir.succeeds(&train.split(' ').collect::<Vec<_>>());
}

#[test]
fn non_finite_logits_are_errors_that_name_the_image() {
    let dir = trained("1");
    let model = "runs/train/model.safetensors";
    // Finite weights with which the logits of both classes overflow, or only that of the second
    // class. If only the second logit is −∞, the loss may stay finite.
    let cases: [(&str, f32, std::ops::Range<usize>); 4] = [
        ("inf", 1.0, 0..2),
        ("-inf", -1.0, 0..2),
        ("inf", 1.0, 1..2),
        ("-inf", -1.0, 1..2),
    ];
    for (name, sign, classes) in cases {
        let large = "large.safetensors";
        edit(&dir, model, large, "classifier.6.weight", |values| {
            let inputs = values.len() / 2;
            values[classes.start * inputs..classes.end * inputs].fill(sign * 1e38);
        });
        edit(&dir, large, large, "classifier.6.bias", |values| {
            values[classes.clone()].fill(sign * f32::MAX);
        });
        let message = dir.fails(1, &["predict", large, "data/val/vertical"]);
        for image in 0..6 {
            let expected = format!(
                "error: cannot classify data/val/vertical/{image:02}.png\nCaused by:\n  the output of the model contains {name}\n"
            );
            assert!(message.contains(&expected), "{message}");
        }
        let message = dir.fails(1, &["evaluate", large, "--data", "data"]);
        let expected = format!(
            "error: cannot evaluate data/val/horizontal/00.png\nCaused by:\n  the output of the model contains {name}\n"
        );
        assert!(message.contains(&expected), "{message}");
    }
    // The output of the first layer overflows.
    for value in [1e38, -1e38] {
        let large = "large.safetensors";
        edit(&dir, model, large, "features.0.weight", |values| {
            values.fill(value)
        });
        let message = dir.fails(1, &["predict", large, "data/val/vertical"]);
        assert!(
            message.contains("the output of the model contains"),
            "{message}"
        );
        let message = dir.fails(1, &["evaluate", large, "--data", "data"]);
        assert!(
            message.contains("the output of the model contains"),
            "{message}"
        );
    }
}

#[test]
fn a_run_whose_final_logits_are_not_finite_ends_without_a_report() {
    let dir = trained("1");
    let (model, large) = ("runs/train/model.safetensors", "large.safetensors");
    // The logit of the second class is −∞. Without val images of this class, the loss is finite.
    edit(&dir, model, large, "classifier.6.weight", |values| {
        let inputs = values.len() / 2;
        values[inputs..].fill(-1e38);
    });
    edit(&dir, large, large, "classifier.6.bias", |values| {
        values[1] = f32::MIN;
    });
    std::fs::remove_dir_all(dir.path("data/val/vertical")).unwrap();
    let train = "train --data data --weights large.safetensors --stage transfer --transfer-epochs 1 --out end";
    let text = dir.succeeds(&train.split(' ').collect::<Vec<_>>());
    let reason = "not calibrated: logit 1 of sample 0 is not finite";
    assert!(text.replace("\n  ", " ").contains(reason), "{text}");
    assert!(!text.contains("report.html"), "{text}");
    assert!(!dir.path("end/report.html").exists());
    assert!(dir.path("end/predictions.csv").exists());
}

#[test]
fn hub_repository_provides_pretrained_weights() {
    let dir = TestDir::with_stripes();
    // Fill the hub cache, so that nothing is downloaded.
    let repository = "hf/hub/models--someone--stripes";
    dir.write(&format!("{repository}/refs/v1"), b"0123abcd");
    let weights = dir.read("tiny.safetensors");
    dir.write(
        &format!("{repository}/snapshots/0123abcd/nets/tiny.safetensors"),
        &weights,
    );
    let run = |weights: &str| {
        let arguments = [
            "train",
            "--data",
            "data",
            "--stage",
            "transfer",
            "--transfer-epochs",
            "1",
        ];
        let mut program = Command::new(env!("CARGO_BIN_EXE_waggle"));
        program
            .current_dir(dir.path("."))
            .args(arguments)
            .args(["--weights", weights]);
        program
            .env("HF_HOME", dir.path("hf"))
            .env_remove("HF_HUB_CACHE");
        stdout_and_stderr(&program.env("HF_HUB_OFFLINE", "1").output().unwrap())
    };
    let (out, err) = run("hf:someone/stripes@v1/nets/tiny.safetensors");
    assert!(
        out.contains("someone/stripes@v1/nets/tiny.safetensors from the hub"),
        "{out}\n{err}"
    );
    assert!(dir.path("runs/train/model.safetensors").exists(), "{err}");
    let (_, err) = run("hf:someone/stripes@v2");
    assert!(err.contains("HF_HUB_OFFLINE"), "{err}");
}

/// Writes `to` with the tensors of `tiny.safetensors` under each prefix, as float64, and a tensor of
/// a loss.
fn write_with_prefixes(dir: &TestDir, to: &str, prefixes: &[&str]) {
    let bytes = dir.read("tiny.safetensors");
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = std::collections::BTreeMap::new();
    for prefix in prefixes {
        for (name, view) in file.tensors() {
            let values = view.data().as_chunks::<4>().0.iter();
            let values = values.map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            let tensor = Tensor::from_vec(values.collect(), view.shape(), &Device::Cpu).unwrap();
            tensors.insert(format!("{prefix}{name}"), tensor);
        }
    }
    let loss = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap();
    tensors.insert("criterion.weight".to_string(), loss);
    let strings = header.metadata().clone();
    safetensors::serialize_to_file(&tensors, strings, &dir.path(to)).unwrap();
}

#[test]
fn narrowed_and_unused_tensors_and_the_choice_of_weights_are_reported() {
    let dir = TestDir::with_stripes();
    let prefixes = ["state_dict.", "state_dict_ema."];
    write_with_prefixes(&dir, "both.safetensors", &prefixes);
    let run = |weights: &str, out: &str| {
        let arguments = "train --data data --stage transfer --transfer-epochs 1 --weights";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.extend([weights, "--out", out]);
        dir.succeeds(&arguments)
    };
    let text = run("both.safetensors", "runs/usual");
    for expected in [
        "used `state_dict`, not state_dict_ema",
        "append their key to its path: FILE#KEY",
        "narrowed from float64 to float32",
        "not used: criterion.weight",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let text = run("both.safetensors#state_dict_ema", "runs/ema");
    assert!(
        text.contains("used `state_dict_ema`, not state_dict;"),
        "{text}"
    );
    let config = String::from_utf8(dir.read("runs/ema/config.toml")).unwrap();
    assert!(
        config.contains("both.safetensors#state_dict_ema"),
        "{config}"
    );
    write_with_prefixes(&dir, "ema.safetensors", &["state_dict_ema."]);
    let text = run("ema.safetensors", "runs/alone");
    assert!(!text.contains("append their key"), "{text}");
}
