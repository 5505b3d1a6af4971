//! End-to-end tests of `waggle train` with a tiny network on tiny images.

mod harness;

use std::collections::BTreeMap;

use harness::{TestDir, json_lines, train_args};

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let lr: &[&str] = match more.contains(&"finetune") {
        true => &[],
        false => &["--lr", "1e-2"],
    };
    train_args(["3", "3"], "8", &[lr, more])
}

#[test]
fn training_prints_each_epoch_and_writes_the_run_directory() {
    let dir = TestDir::with_stripes();
    let out = dir.succeeds(&train(&[]));

    let before = &out[..out.find("Stage transfer").unwrap()];
    for part in [
        "Data     data\n",
        "24 train and 12 val images, 2 classes: horizontal, vertical",
        "Network  tiny, 32 px, ",
        "Weights  10 of 12 tensors from tiny.safetensors; new head for 2 classes",
        "Run      runs/train",
    ] {
        assert!(before.contains(part), "{part}: {before}");
    }
    for stage in ["Stage transfer", "Stage finetune"] {
        let part = &out[out.find(stage).unwrap_or_else(|| panic!("{stage}: {out}"))..];
        let lines: Vec<&str> = part.lines().skip(3).take(4).collect();
        assert!(lines[0].starts_with("epoch train loss     acc"), "{part}");
        assert!(
            lines[1].starts_with("  1/3           baseline    "),
            "{part}"
        );
        assert!(
            lines[2].starts_with("  2/3 ") && lines[2].contains(" %"),
            "{part}"
        );
        assert!(lines[3].starts_with("  3/3 "), "{part}");
        assert!(part.contains("\nTraining complete in 0m "), "{part}");
        assert!(part.contains("\nBest val Acc: "), "{part}");
    }
    let end = &out[out.find("\nAccuracy ").unwrap()..];
    for part in [
        " % of 12 val images (95 % interval: ",
        "\nWorst    ",
        "\nTime     ",
        "\nWrote    runs/train: model.safetensors, config.toml, metrics.csv, curves.png, ",
        "\nNext     waggle predict runs/train IMAGE...\n",
    ] {
        assert!(end.contains(part), "{part}: {end}");
    }

    let metrics = dir.metrics("runs/train");
    assert_eq!(
        metrics[0],
        "stage,epoch,train_loss,train_accuracy,val_loss,val_accuracy"
    );
    assert!(metrics[1].starts_with("transfer,1,,,"), "{}", metrics[1]);
    assert_eq!(metrics.len(), 7);
    let losses: Vec<f64> = metrics[1..]
        .iter()
        .map(|row| row.split(',').nth(4).unwrap().parse().unwrap())
        .collect();
    assert!(
        losses[2] < losses[0],
        "the val loss decreases in the transfer stage: {losses:?}"
    );

    for name in ["curves.png", "confusion_matrix.png", "train_batch.png"] {
        let plot = image::load_from_memory(&dir.read(&format!("runs/train/{name}"))).unwrap();
        assert!(plot.width() >= 32 && plot.height() >= 32, "{name}");
    }
    let config = String::from_utf8(dir.read("runs/train/config.toml")).unwrap();
    for part in [
        "[versions]",
        "seed = 1234",
        "batch_size = 8",
        "\"classifier.6\"",
        "horizontal",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    assert_eq!(
        dir.files("runs/train"),
        [
            "config.toml",
            "confusion_matrix.png",
            "curves.png",
            "metrics.csv",
            "model.safetensors",
            "predictions.csv",
            "report.html",
            "run.toml",
            "train_batch.png"
        ],
        "no temporary files are left"
    );
}

#[test]
fn verbose_prints_the_layers_and_the_shapes_of_replaced_tensors() {
    let dir = TestDir::with_stripes();
    let out = dir.succeeds(&train(&["--stage", "transfer", "--verbose"]));
    for part in [
        "(features)",
        "Linear(in_features=",
        "classifier.6.weight: [10, 24] in the file, [2, 24] in the network",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn a_stage_of_one_epoch_prints_a_warning() {
    let dir = TestDir::with_stripes();
    let output = dir.waggle(&train_args(["1", "3"], "8", &[&["--stage", "transfer"]]));
    let (_, err) = harness::stdout_and_stderr(&output);
    assert_eq!(
        err,
        "warning: stage transfer does not train: its only epoch is the baseline\n\
         help: pass `--transfer-epochs 2` to train for one epoch\n"
    );
}

#[test]
fn the_model_has_the_tensors_of_the_weights_with_a_new_head() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--stage", "transfer"]));
    let shapes = |bytes: &[u8]| -> BTreeMap<String, Vec<usize>> {
        let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
        tensors
            .iter()
            .map(|(name, view)| {
                assert_eq!(view.dtype(), safetensors::Dtype::F32);
                (name.to_string(), view.shape().to_vec())
            })
            .collect()
    };
    let mut expected = shapes(&dir.read("tiny.safetensors"));
    // The new head has two classes instead of ten.
    let hidden = expected["classifier.6.weight"][1];
    expected.insert("classifier.6.weight".to_string(), vec![2, hidden]);
    expected.insert("classifier.6.bias".to_string(), vec![2]);
    assert_eq!(shapes(&dir.read("runs/train/model.safetensors")), expected);
}

#[test]
fn the_transfer_stage_changes_only_newly_initialized_layers() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--stage", "transfer"]));
    let (before, after) = (
        dir.read("tiny.safetensors"),
        dir.read("runs/train/model.safetensors"),
    );
    let before = safetensors::SafeTensors::deserialize(&before).unwrap();
    let after = safetensors::SafeTensors::deserialize(&after).unwrap();
    for (name, view) in before
        .iter()
        .filter(|(name, _)| !name.starts_with("classifier.6"))
    {
        assert_eq!(view.data(), after.tensor(name).unwrap().data(), "{name}");
    }
}

#[test]
fn the_model_does_not_depend_on_the_number_of_workers_or_the_cache() {
    let dir = TestDir::with_stripes();
    for workers in ["1", "1", "4"] {
        dir.succeeds(&train(&["--workers", workers]));
    }
    dir.succeeds(&train(&["--cache-images", "0", "--workers", "3"]));
    for other in ["runs/train-2", "runs/train-3", "runs/train-4"] {
        let model = |run: &str| dir.read(&format!("{run}/model.safetensors"));
        assert!(model("runs/train") == model(other), "{other}");
        assert_eq!(dir.metrics("runs/train"), dir.metrics(other));
    }
    dir.succeeds(&train(&["--seed", "5"]));
    assert_ne!(
        dir.metrics("runs/train"),
        dir.metrics("runs/train-5"),
        "another seed gives other metrics"
    );
}

#[test]
fn an_existing_run_directory_is_never_overwritten() {
    let dir = TestDir::with_stripes();
    dir.write("mine/notes.txt", b"keep");
    let run = dir.succeeds(&train(&["--out", "mine", "--stage", "transfer", "--quiet"]));
    assert_eq!(run, "mine-2\n");
    assert_eq!(dir.read("mine/notes.txt"), b"keep");
    assert_eq!(std::fs::read_dir(dir.path("mine")).unwrap().count(), 1);
}

#[test]
fn json_events_match_metrics_csv() {
    let dir = TestDir::with_stripes();
    let events = json_lines(&dir.succeeds(&train(&["--json"])));
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first(), Some(&"data"));
    assert_eq!(kinds.last(), Some(&"done"));
    for kind in [
        "device",
        "network",
        "weights",
        "run",
        "stage_start",
        "epoch_start",
        "batch",
        "phase",
        "new_best",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let val: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "phase" && event["phase"] == "val")
        .map(|event| {
            format!(
                "{},{},{}",
                event["stage"].as_str().unwrap(),
                event["epoch"],
                event["loss"]
            )
        })
        .collect();
    let rows: Vec<String> = dir.metrics("runs/train")[1..]
        .iter()
        .map(|row| {
            let fields: Vec<&str> = row.split(',').collect();
            format!("{},{},{}", fields[0], fields[1], fields[4])
        })
        .collect();
    assert_eq!(val, rows);
}

#[test]
fn a_run_can_start_from_the_model_of_another() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train(&["--stage", "transfer"]));
    let more = [
        "--weights",
        "runs/train",
        "--stage",
        "finetune",
        "--finetune-epochs",
        "2",
    ];
    let arguments = [
        &[
            "train",
            "--data",
            "data",
            "--batch-size",
            "8",
            "--threads",
            "2",
        ],
        &more[..],
    ]
    .concat();
    let out = dir.succeeds(&arguments);
    assert!(
        !out.contains("new head"),
        "the head has the same classes: {out}"
    );
    // The baseline of the second run has the same metrics as the first run's best epoch.
    let (first, second) = (dir.metrics("runs/train"), dir.metrics("runs/train-2"));
    let best = first[1..]
        .iter()
        .map(|row| {
            row.split(',')
                .skip(4)
                .map(|field| field.parse().unwrap())
                .collect::<Vec<f64>>()
        })
        .reduce(|best, row| if row[1] > best[1] { row } else { best })
        .unwrap();
    let start: Vec<f64> = second[1]
        .split(',')
        .skip(4)
        .map(|field| field.parse().unwrap())
        .collect();
    assert_eq!(start, best);
}

#[test]
fn layers_without_a_learning_rate_stay_frozen() {
    let dir = TestDir::with_stripes();
    let arguments = [
        &[
            "train",
            "--data",
            "data",
            "--weights",
            "tiny.safetensors",
            "--batch-size",
            "4",
        ][..],
        &[
            "--stage",
            "finetune",
            "--finetune-epochs",
            "20",
            "--finetune-lr",
            "classifier=2e-2",
        ],
    ];
    dir.succeeds(&arguments.concat());
    let (before, after) = (
        dir.read("tiny.safetensors"),
        dir.read("runs/train/model.safetensors"),
    );
    let before = safetensors::SafeTensors::deserialize(&before).unwrap();
    let after = safetensors::SafeTensors::deserialize(&after).unwrap();
    let is_unchanged =
        |name: &str| before.tensor(name).unwrap().data() == after.tensor(name).unwrap().data();
    assert!(is_unchanged("features.0.weight"));
    assert!(!is_unchanged("classifier.0.weight"));
}

#[test]
fn a_non_finite_loss_is_an_error_that_names_the_images_and_keeps_the_best_weights() {
    let dir = TestDir::with_stripes();
    let arguments = [
        &train(&["--stage", "finetune", "--finetune-lr"])[..],
        &["features=1e30,classifier=1e30"],
    ]
    .concat();
    let message = dir.fails(1, &arguments);
    assert!(
        message.contains("loss") && message.contains("data/train/"),
        "{message}"
    );
    for part in [
        "learning rates: features 1e30, classifier 1e30",
        " of epoch 2 of stage finetune",
        "batch ",
        "ten times smaller",
        "best weights so far: runs/train/model.safetensors (epoch 1, val accuracy 0.",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // The baseline is the best epoch, so the model has the weights from before training.
    let (before, kept) = (
        dir.read("tiny.safetensors"),
        dir.read("runs/train/model.safetensors"),
    );
    let before = safetensors::SafeTensors::deserialize(&before).unwrap();
    let kept = safetensors::SafeTensors::deserialize(&kept).unwrap();
    for name in ["features.0.weight", "classifier.3.bias"] {
        assert!(before.tensor(name).unwrap().data() == kept.tensor(name).unwrap().data());
    }
}
