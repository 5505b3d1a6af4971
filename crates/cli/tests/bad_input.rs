//! Invalid input from the user: every error names the invalid file, folder or value, the exit code
//! is 1 or 2, and the program does not panic.

mod harness;

use harness::TestDir;

/// Arguments for a run on `data` with the tiny network, in which each stage is only its baseline.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--data", "data", "--weights", "tiny.safetensors"];
    arguments.extend([
        "--transfer-epochs",
        "1",
        "--finetune-epochs",
        "1",
        "--batch-size",
        "8",
    ]);
    arguments.extend(more);
    arguments
}

#[track_caller]
fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
}

#[test]
fn missing_data_folder_is_an_error() {
    let dir = TestDir::new();
    assert_contains(&dir.fails(1, &["train", "--data", "nowhere"]), &["nowhere"]);
    assert!(
        !dir.path("runs").exists(),
        "a run that cannot start created a directory"
    );
}

#[test]
fn data_folder_without_splits_or_classes_is_an_error() {
    let dir = TestDir::with_stripes();
    std::fs::create_dir(dir.path("empty")).unwrap();
    assert_contains(
        &dir.fails(1, &["train", "--data", "empty"]),
        &["empty", "train"],
    );
    std::fs::create_dir_all(dir.path("bare/train")).unwrap();
    std::fs::create_dir_all(dir.path("bare/val")).unwrap();
    assert_contains(&dir.fails(1, &["train", "--data", "bare"]), &["bare/train"]);
    std::fs::remove_dir_all(dir.path("data/val")).unwrap();
    assert_contains(&dir.fails(1, &train(&[])), &["val", "data"]);
}

#[test]
fn class_without_images_is_an_error() {
    let dir = TestDir::with_stripes();
    dir.write("data/train/nothing/notes.txt", b"not an image");
    assert_contains(&dir.fails(1, &train(&[])), &["nothing", "png"]);
}

#[test]
fn all_undecodable_images_are_listed_before_training() {
    let dir = TestDir::with_stripes();
    let whole = dir.read("data/train/vertical/00.png");
    dir.write("data/train/vertical/00.png", &whole[..whole.len() / 2]);
    dir.write("data/train/horizontal/03.png", b"this is not an image");
    dir.write("data/val/horizontal/01.jpg", b"");
    let message = dir.fails(1, &train(&[]));
    assert_contains(
        &message,
        &[
            "train/vertical/00.png",
            "train/horizontal/03.png",
            "val/horizontal/01.jpg",
        ],
    );
    assert!(!dir.path("runs").exists());
}

#[test]
fn class_only_in_val_is_an_error() {
    let dir = TestDir::with_stripes();
    dir.image("data/val/stranger/0.png", 0, 0);
    assert_contains(&dir.fails(1, &train(&[])), &["stranger"]);
}

#[test]
fn invalid_and_truncated_weights_are_errors() {
    let dir = TestDir::with_stripes();
    let error = |file: &str| {
        dir.fails(
            1,
            &[
                "train",
                "--data",
                "data",
                "--weights",
                file,
                "--transfer-epochs",
                "1",
            ],
        )
    };
    assert_contains(&error("missing.safetensors"), &["missing.safetensors"]);
    dir.write("text.safetensors", b"these are not weights");
    assert_contains(&error("text.safetensors"), &["text.safetensors"]);
    dir.write("empty.safetensors", b"");
    assert_contains(&error("empty.safetensors"), &["empty.safetensors"]);
    let whole = dir.read("tiny.safetensors");
    dir.write("cut.safetensors", &whole[..whole.len() - 100]);
    assert_contains(&error("cut.safetensors"), &["cut.safetensors"]);
    dir.other_network_weights("foreign.safetensors");
    assert_contains(&error("foreign.safetensors"), &["foreign.safetensors"]);
    assert!(!dir.path("runs").exists());
}

#[test]
fn arch_that_contradicts_the_weights_is_an_error() {
    let dir = TestDir::with_stripes();
    assert_contains(
        &dir.fails(1, &train(&["--arch", "vgg19"])),
        &["tiny.safetensors", "vgg19"],
    );
}

#[test]
fn model_for_other_classes_is_an_error() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&[]));
    dir.stripes("three", &["horizontal", "vertical", "wide"], 2, 2);
    let message = dir.fails(1, &["evaluate", "runs/train", "--data", "three"]);
    assert_contains(&message, &["wide", "three"]);
    dir.stripes("other", &["horizontal", "up"], 2, 2);
    assert_contains(
        &dir.fails(1, &["evaluate", "runs/train", "--data", "other"]),
        &["up", "vertical"],
    );
    // A model with three class names and two outputs.
    dir.model_with_classes(
        "runs/train/model.safetensors",
        "mismatched.safetensors",
        &["a", "b", "c"],
    );
    dir.image("p.png", 0, 0);
    assert_contains(
        &dir.fails(1, &["predict", "mismatched.safetensors", "p.png"]),
        &["mismatched.safetensors"],
    );
}

#[test]
fn unwritable_output_is_an_error() {
    let dir = TestDir::with_stripes();
    dir.write("file", b"");
    assert_contains(
        &dir.fails(1, &train(&["--out", "file/runs/train"])),
        &["file/runs/train", "--out"],
    );
    assert_contains(
        &dir.fails(1, &["show", "--data", "data", "-o", "file/x.png"]),
        &["file/x.png"],
    );
}

#[test]
fn unknown_and_missing_devices_are_errors() {
    let dir = TestDir::with_stripes();
    assert_contains(
        &dir.fails(2, &train(&["--device", "tpu"])),
        &["--device", "tpu", "cpu"],
    );
    if !candle_core::utils::cuda_is_available() {
        assert_contains(
            &dir.fails(1, &train(&["--device", "cuda:7"])),
            &["cuda:7", "--device cpu"],
        );
    }
}

#[test]
fn numbers_out_of_range_are_usage_errors() {
    let dir = TestDir::new();
    for (flag, value) in [
        ("--batch-size", "0"),
        ("--lr", "NaN"),
        ("--momentum", "2"),
        ("--transfer-epochs", "0"),
    ] {
        assert_contains(&dir.fails(2, &["train", flag, value]), &[flag, value]);
    }
    assert_contains(
        &dir.fails(2, &["train", "--finetune-lr", "features=NaN"]),
        &["--finetune-lr", "features=NaN"],
    );
}

#[test]
fn layer_prefixes_without_layers_to_train_are_errors() {
    let dir = TestDir::with_stripes();
    assert_contains(
        &dir.fails(1, &train(&["--finetune-lr", "clasifier=1e-3"])),
        &["clasifier", "classifier.6"],
    );
    assert_contains(
        &dir.fails(1, &train(&["--transfer-layers", "head"])),
        &["head", "classifier.6"],
    );
    // The prefixes of the second stage are checked before the first stage runs.
    let groups =
        "features=1e-3,classifier=1e-3,classifier.0=1e-3,classifier.3=1e-3,classifier.6=1e-3";
    assert_contains(
        &dir.fails(1, &train(&["--finetune-lr", groups])),
        &["`classifier`"],
    );
    assert!(!dir.path("runs").exists());
}

#[test]
fn missing_and_invalid_models_are_errors() {
    let dir = TestDir::with_stripes();
    dir.image("p.png", 0, 0);
    assert_contains(
        &dir.fails(1, &["predict", "nowhere", "p.png"]),
        &["nowhere"],
    );
    std::fs::create_dir(dir.path("folder")).unwrap();
    assert_contains(
        &dir.fails(1, &["predict", "folder", "p.png"]),
        &["folder", "model.safetensors"],
    );
    assert_contains(
        &dir.fails(1, &["evaluate", "p.png", "--data", "data"]),
        &["p.png"],
    );
    // Weights without metadata can initialize a run, but they are not a model.
    dir.weights_without_metadata("tiny.safetensors", "bare.safetensors");
    assert_contains(
        &dir.fails(1, &["predict", "bare.safetensors", "p.png"]),
        &["bare.safetensors"],
    );
}

#[test]
fn usage_errors_exit_with_code_two() {
    let dir = TestDir::new();
    dir.fails(2, &["train", "--no-such-flag"]);
    dir.fails(2, &["predict", "model.safetensors"]);
    dir.fails(2, &["train", "--quiet", "--json"]);
    assert_eq!(dir.waggle(&[]).status.code(), Some(2));
    assert_eq!(dir.waggle(&["--help"]).status.code(), Some(0));
}

#[test]
#[cfg(unix)]
fn outputs_inside_the_data_set_are_refused_also_through_links_and_parent_folders() {
    let dir = TestDir::with_stripes();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(dir.path(to), dir.path(at)).unwrap();
    // A class folder that is a link: its target is data too.
    std::fs::rename(dir.path("data/train/vertical"), dir.path("store")).unwrap();
    link("store", "data/train/vertical");
    link("data/train", "shortcut");
    std::fs::create_dir(dir.path("elsewhere")).unwrap();
    let before = dir.contents("data");
    for out in [
        "data",
        "data/",
        "data/run",
        "data/train",
        "data/new/deep/run",
        "./elsewhere/../data/val/run",
        "missing/../data/run",
        "shortcut/run",
        "shortcut/../run",
        "store/run",
        "data/train/vertical/run",
    ] {
        let message = dir.fails(1, &train(&["--out", out]));
        assert_contains(
            &message,
            &[&format!("`{out}` is inside the data set `data`"), "--out"],
        );
    }
    for out in ["data/val/x.png", "shortcut/x.png", "store/x.png"] {
        let message = dir.fails(1, &["show", "--data", "data", "--out", out]);
        assert_contains(&message, &["is inside the data set `data`", "--out"]);
    }
    assert_eq!(dir.contents("data"), before);
    assert!(!dir.path("missing").exists());
    // A sibling whose name begins like the data set, and a run directory that contains it.
    dir.succeeds(&train(&["--out", "data-runs/run"]));
    dir.succeeds(&train(&["--out", "data/../runs/train"]));
    // `show` may write next to the splits.
    let arguments = [
        "show",
        "--data",
        "data",
        "--input-size",
        "32",
        "--out",
        "data/x.png",
    ];
    dir.succeeds(&arguments);
}
