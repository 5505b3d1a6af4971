//! Tests of `evaluate` and `predict` with a trained model, and of `show` and `summary`.

mod harness;

use harness::{TestDir, json_lines, stdout_and_stderr};

/// A directory with a finished run in `runs/train`.
fn trained() -> TestDir {
    let dir = TestDir::with_stripes();
    let rates = "features=2e-2,classifier.0=2e-2,classifier.3=2e-2,classifier.6=2e-2";
    dir.succeeds(&[
        "train",
        "--data",
        "data",
        "--weights",
        "tiny.safetensors",
        "--stage",
        "finetune",
        "--finetune-epochs",
        "30",
        "--batch-size",
        "4",
        "--finetune-lr",
        rates,
    ]);
    dir
}

#[test]
fn evaluate_prints_loss_accuracy_and_confusion_matrix() {
    let dir = trained();
    let out = dir.succeeds(&["evaluate", "runs/train", "--data", "data", "--json"]);
    assert_eq!(out.lines().count(), 1, "one object: {out}");
    let report = &json_lines(&out)[0];
    assert_eq!(
        report["classes"],
        serde_json::json!(["horizontal", "vertical"])
    );
    let confusion: Vec<Vec<u64>> = serde_json::from_value(report["confusion"].clone()).unwrap();
    assert_eq!(
        confusion
            .iter()
            .map(|row| row.iter().sum::<u64>())
            .collect::<Vec<_>>(),
        [6, 6]
    );
    let correct = (confusion[0][0] + confusion[1][1]) as f64;
    assert_eq!(report["accuracy"].as_f64().unwrap(), correct / 12.0);

    // Loss and accuracy are those of the best epoch.
    let metrics = String::from_utf8(dir.read("runs/train/metrics.csv")).unwrap();
    let best = metrics
        .lines()
        .filter(|line| line.starts_with("finetune"))
        .map(|line| {
            line.split(',')
                .skip(4)
                .take(2)
                .map(|field| field.parse().unwrap())
                .collect::<Vec<f64>>()
        })
        .reduce(|best, row| if row[1] > best[1] { row } else { best })
        .unwrap();
    let loss = report["loss"].as_f64().unwrap();
    assert!(
        (loss - best[0]).abs() < 1e-6 && report["accuracy"] == best[1],
        "{report} {best:?}"
    );

    // The default data set is the one that `config.toml` records. With `--data` and the path of the
    // model file, the result is the same.
    assert_eq!(dir.succeeds(&["evaluate", "runs/train", "--json"]), out);
    assert_eq!(
        dir.succeeds(&[
            "evaluate",
            "runs/train/model.safetensors",
            "--json",
            "--data",
            "data"
        ]),
        out
    );
    let train = dir.succeeds(&["evaluate", "runs/train", "--split", "train", "--json"]);
    let confusion = &json_lines(&train)[0]["confusion"];
    assert_eq!(
        confusion[0][0].as_u64().unwrap() + confusion[0][1].as_u64().unwrap(),
        12
    );

    let text = dir.succeeds(&["evaluate", "runs/train"]);
    for part in [
        "Loss      ",
        "Accuracy  ",
        " of 12; 95 % interval: ",
        "\nMatthews correlation",
        "\nhorizontal  ",
        "\nvertical    ",
        "\nweighted average",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    dir.fails(1, &["evaluate", "runs/train", "--split", "test"]);
}

#[test]
fn evaluate_reports_metrics_as_fractions_and_writes_predictions() {
    let dir = trained();
    let arguments = ["evaluate", "runs/train", "--predictions", "p.csv", "--json"];
    let report = json_lines(&dir.succeeds(&arguments)).remove(0);
    let rows = csv_rows(&dir.read("p.csv"));
    let header = [
        "path",
        "truth",
        "predicted",
        "probability_horizontal",
        "probability_vertical",
        "loss",
    ];
    assert_eq!(
        (&rows[0][..], rows.len()),
        (&header.map(String::from)[..], 13)
    );
    assert_eq!(
        rows[1][..2],
        ["val/horizontal/00.png", "horizontal"].map(String::from)
    );
    let numbers = |row: &[String]| -> Vec<f64> {
        let numbers = row[3..].iter().map(|number| number.parse().unwrap());
        numbers.collect()
    };
    let (mut correct, mut loss) = (0, 0.0);
    for row in &rows[1..] {
        let [horizontal, vertical, row_loss] = numbers(row)[..] else {
            panic!("{row:?}");
        };
        let predicted = if horizontal >= vertical {
            "horizontal"
        } else {
            "vertical"
        };
        assert_eq!(row[2], predicted);
        let probability = if row[1] == "horizontal" {
            horizontal
        } else {
            vertical
        };
        assert!((horizontal + vertical - 1.0).abs() < 1e-6, "{row:?}");
        assert!((row_loss + probability.ln()).abs() < 1e-4, "{row:?}");
        correct += u64::from(row[1] == row[2]);
        loss += row_loss / 12.0;
    }
    assert_eq!(
        (&report["correct"], &report["images"]),
        (&correct.into(), &12.into())
    );
    assert!(
        (report["log_loss"].as_f64().unwrap() - loss).abs() < 1e-9,
        "{report}"
    );
    for name in [
        "accuracy",
        "balanced_accuracy",
        "matthews_correlation",
        "roc_auc",
        "average_precision",
        "brier_score",
        "expected_calibration_error",
    ] {
        let value = report[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {report}"));
        assert!((0.0..=1.0).contains(&value), "{name}: {report}");
    }
    assert_eq!(report["top5_accuracy"], serde_json::Value::Null);
    assert_eq!(report["reliability"].as_array().unwrap().len(), 15);
    let class = &report["per_class"][1];
    assert_eq!(
        (&class["class"], &class["support"]),
        (&"vertical".into(), &6.into())
    );
    for name in ["precision", "recall", "f1", "roc_auc", "average_precision"] {
        assert!(class[name].is_number(), "{name}: {class}");
    }
    let interval = class["recall_interval"].as_array().unwrap();
    assert!(interval[0].as_f64() <= class["recall"].as_f64());

    // The run directory has the predictions for val. They differ by rounding only, because training
    // builds the network in another way.
    let of_run = csv_rows(&dir.read("runs/train/predictions.csv"));
    assert_eq!(of_run.len(), rows.len());
    for (a, b) in of_run[1..].iter().zip(&rows[1..]) {
        assert_eq!(a[..3], b[..3]);
        for (a, b) in numbers(a).iter().zip(numbers(b)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    let message = dir.fails(1, &arguments);
    assert!(message.contains("`p.csv` already exists"), "{message}");
    dir.write("p.csv", b"old");
    dir.succeeds(&[&arguments[..], &["--overwrite", "--split", "train"]].concat());
    assert_eq!(csv_rows(&dir.read("p.csv")).len(), 25);
}

/// The records of a CSV file, with its header.
fn csv_rows(bytes: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new();
    let mut reader = reader.has_headers(false).from_reader(bytes);
    let records = reader.deserialize();
    records.collect::<Result<_, _>>().unwrap()
}

#[test]
fn predict_prints_the_most_probable_classes_of_each_image() {
    let dir = trained();
    for (class, name) in ["horizontal", "vertical"].iter().enumerate() {
        for number in 20..24 {
            dir.image(&format!("new/{name}/{number}.png"), class, number);
        }
    }
    dir.write("new/notes.txt", b"not an image");
    let out = dir.succeeds(&[
        "predict",
        "runs/train",
        "new",
        "--json",
        "--top-k",
        "2",
        "--batch-size",
        "3",
    ]);
    let predictions = json_lines(&out);
    assert_eq!(predictions.len(), 8);
    for prediction in &predictions {
        let path = prediction["path"].as_str().unwrap();
        assert_eq!(
            path.split('/').nth(1),
            prediction["class"].as_str(),
            "the predicted class is wrong: {prediction}"
        );
        let top = prediction["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[0]["class"], prediction["class"]);
        assert_eq!(top[0]["probability"], prediction["probability"]);
        let sum: f64 = top
            .iter()
            .map(|entry| entry["probability"].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-5, "{prediction}");
    }
    let paths: Vec<&str> = predictions
        .iter()
        .map(|prediction| prediction["path"].as_str().unwrap())
        .collect();
    assert!(paths.is_sorted(), "{paths:?}");

    let csv = dir.succeeds(&["predict", "runs/train", "new", "--csv"]);
    assert_eq!(csv.lines().next(), Some("path,class,probability"));
    assert_eq!(csv.lines().count(), 9);
    let text = dir.succeeds(&[
        "predict",
        "runs/train",
        "new/vertical/20.png",
        "new/horizontal",
    ]);
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .starts_with("new/vertical/20.png"),
        "the images are not in the given order: {text}"
    );
    // The batch size changes probabilities by rounding only.
    let with_batch_size_1 = json_lines(&dir.succeeds(&[
        "predict",
        "runs/train",
        "new",
        "--json",
        "--top-k",
        "2",
        "--batch-size",
        "1",
    ]));
    for (a, b) in predictions.iter().zip(&with_batch_size_1) {
        let difference = a["probability"].as_f64().unwrap() - b["probability"].as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_bad_image_is_reported_and_the_others_are_classified() {
    let dir = trained();
    dir.image("new/a.png", 0, 1);
    dir.write("new/b.png", b"broken");
    dir.image("new/c.png", 1, 2);
    let output = dir.waggle(&["predict", "runs/train", "new", "missing.png", "--json"]);
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let lines = json_lines(&out);
    let paths: Vec<&str> = lines
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    let given = ["new/a.png", "new/b.png", "new/c.png", "missing.png"];
    assert_eq!(paths, given);
    for (line, is_good) in lines.iter().zip([true, false, true, false]) {
        assert_eq!(line["class"].is_string(), is_good, "{line}");
        assert_eq!(line["error"].is_string(), !is_good, "{line}");
    }
    let error = lines[1]["error"].as_str().unwrap();
    assert!(error.contains("cannot decode"), "{error}");
    assert!(
        err.contains("new/b.png") && err.contains("missing.png"),
        "{err}"
    );
    // The exit code and standard error are the same without `--json`.
    let output = dir.waggle(&["predict", "runs/train", "new", "missing.png"]);
    assert_eq!(output.status.code(), Some(1));
    let (out, err_without_json) = stdout_and_stderr(&output);
    assert_eq!((out.lines().count(), err_without_json), (2, err), "{out}");
    std::fs::create_dir(dir.path("none")).unwrap();
    assert!(
        dir.fails(1, &["predict", "runs/train", "none"])
            .contains("none")
    );
}

#[test]
fn show_draws_a_batch_and_replaces_files_only_with_overwrite() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&[
        "show",
        "--data",
        "data",
        "--batch-size",
        "5",
        "--input-size",
        "64",
    ]);
    let image = image::load_from_memory(&dir.read("train_batch.png")).unwrap();
    assert!(
        image.width() >= 64 * 5 || image.height() >= 64,
        "{}x{}",
        image.width(),
        image.height()
    );
    // Without `--overwrite`, an existing file is an error.
    let message = dir.fails(1, &["show", "--data", "data"]);
    for part in ["`train_batch.png` already exists", "--overwrite", "--out"] {
        assert!(message.contains(part), "{message}");
    }
    dir.write("old.png", b"old");
    dir.succeeds(&["show", "--data", "data", "-o", "old.png", "--overwrite"]);
    assert_ne!(dir.read("old.png"), b"old");
    // Each epoch has its own order and augmentation. The default is epoch 2, the first that trains.
    for (name, epoch) in [("again.png", "2"), ("other.png", "3")] {
        dir.succeeds(&[
            "show",
            "--data",
            "data",
            "--batch-size",
            "5",
            "--input-size",
            "64",
            "-o",
            name,
            "--epoch",
            epoch,
        ]);
    }
    assert_eq!(dir.read("again.png"), dir.read("train_batch.png"));
    assert_ne!(dir.read("other.png"), dir.read("train_batch.png"));
}

#[test]
fn summary_prints_layers_and_parameter_counts() {
    let dir = TestDir::new();
    let out = dir.succeeds(&["summary"]);
    assert!(
        out.contains("138,357,544") || out.contains("138357544"),
        "{out}"
    );
    assert!(
        out.contains("(classifier)") && out.contains("Linear("),
        "{out}"
    );
    let out = dir.succeeds(&["summary", "--arch", "vgg11", "--classes", "2"]);
    // torchvision's vgg11 has 132,863,336 parameters with 1000 classes. Two classes are 998 fewer,
    // and each has 4096 weights and a bias.
    assert!(
        out.contains("128,774,530") || out.contains("128774530"),
        "{out}"
    );
}
