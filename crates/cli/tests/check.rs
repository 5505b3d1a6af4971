//! Tests of `waggle check`, of `--on-bad`, and of model files behind symbolic links.

mod harness;

use harness::{TestDir, json_lines, stdout_and_stderr};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// Writes an image of 6 × 5 squares in random colors, which depend on `seed`.
fn patches(dir: &TestDir, name: &str, seed: u32) {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    let colors: Vec<Rgb<u8>> = (0..30).map(|_| Rgb([next(), next(), next()])).collect();
    let image = RgbImage::from_fn(120, 100, |x, y| colors[(x / 20 + y / 20 * 6) as usize]);
    let path = dir.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

/// A folder with a data set without problems in `data`, 16 train and 8 val images that all differ,
/// and the weights `tiny.safetensors`.
fn good() -> TestDir {
    let dir = TestDir::new();
    let mut seed = 0;
    for (split, count) in [("train", 8), ("val", 4)] {
        for class in ["horizontal", "vertical"] {
            for number in 0..count {
                seed += 1;
                patches(&dir, &format!("data/{split}/{class}/{number:02}.png"), seed);
            }
        }
    }
    dir.tiny_weights("tiny.safetensors", 10);
    dir
}

#[test]
fn a_good_data_set_has_no_serious_problem() {
    let dir = good();
    let out = dir.succeeds(&["check", "data"]);
    assert!(out.contains("horizontal        8           4"), "{out}");
    assert!(out.contains("24 images read."), "{out}");
    assert!(out.ends_with("No serious problems found.\n"), "{out}");
    assert!(!out.contains('!'), "{out}");
}

#[test]
fn the_data_set_can_be_passed_with_data_as_in_other_commands() {
    let dir = good();
    let out = dir.succeeds(&["check", "--data", "data"]);
    assert_eq!(out, dir.succeeds(&["check", "data"]));
    dir.fails(2, &["check", "data", "--data", "data"]);
}

#[test]
fn the_sample_has_no_ignored_files() {
    let dir = TestDir::new();
    let out = dir.succeeds(&["check", "sample"]);
    assert!(!out.contains("Ignored"), "{out}");
}

#[test]
fn a_single_class_is_serious_because_training_needs_two() {
    let dir = TestDir::new();
    dir.stripes("data", &["horizontal"], 4, 2);
    let out = dir.waggle(&["check", "data"]);
    assert_eq!(out.status.code(), Some(1));
    let out = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.contains("! Only one class (training fails): 1\n    horizontal\n"),
        "{out}"
    );
}

#[test]
fn serious_findings_are_marked_and_exit_with_code_1() {
    let dir = good();
    let image = dir.read("data/train/horizontal/00.png");
    dir.write("data/val/vertical/leak.png", &image);
    dir.write("data/train/vertical/half.png", &image[..image.len() / 2]);
    dir.write("data/train/vertical/notes.txt", b"text");
    let output = dir.waggle(&["check", "data"]);
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    for part in [
        "! Images that cannot be decoded: 1\n    train/vertical/half.png: ",
        "! Images in both train and val (leaks): 1\n    same file: train/horizontal/00.png, val/vertical/leak.png",
        "! Images in more than one class (conflicting labels): 1",
        "\nIgnored files and folders: 1\n    train/vertical/notes.txt: no image extension (text file)",
        "Findings marked with `!` are serious.",
    ] {
        assert!(out.contains(part), "{part:?} is not in:\n{out}");
    }
    assert_eq!(err, "", "no bar is drawn without a terminal");
}

#[test]
fn a_class_without_val_images_is_reported() {
    let dir = good();
    std::fs::remove_dir_all(dir.path("data/val/vertical")).unwrap();
    let out = dir.succeeds(&["check", "data"]);
    for part in ["\nClasses without a folder in val", ": 1\n    vertical\n"] {
        assert!(out.contains(part), "{part:?}: {out}");
    }
    let report = &json_lines(&dir.succeeds(&["check", "data", "--json"]))[0];
    assert_eq!(report["classes_without_val"], json!(["vertical"]));
    let events = json_lines(&dir.succeeds(&train(&[])));
    let event = events
        .iter()
        .find(|event| event["event"] == "classes_without_val");
    assert_eq!(event.unwrap()["classes"], json!(["vertical"]));
    let (_, err) = stdout_and_stderr(&dir.waggle(&train_without_json(&[])));
    let warning = "warning: no validation images for vertical; val metrics exclude them\n";
    assert_eq!(err, warning);
}

#[test]
#[cfg(unix)]
fn a_val_split_that_links_to_train_is_serious_in_check_and_a_warning_in_train_and_evaluate() {
    let dir = good();
    std::fs::remove_dir_all(dir.path("data/val")).unwrap();
    std::os::unix::fs::symlink("train", dir.path("data/val")).unwrap();
    let (out, _) = stdout_and_stderr(&dir.waggle(&["check", "data"]));
    let leaks = "\n! Images in both train and val (leaks): ";
    assert!(out.contains(leaks), "{out}");
    let (_, err) = stdout_and_stderr(&dir.waggle(&train_without_json(&[])));
    let same = "warning: `data/val` and `data/train` are the same folder";
    assert_eq!(err, format!("{same}; val metrics include train images\n"));
    let events = json_lines(&dir.succeeds(&train(&[])));
    let is_event = |event: &&Value| event["event"] == "shared_folder";
    let event = events.iter().find(is_event).unwrap();
    assert_eq!(
        (&event["train"], &event["val"]),
        (&json!("data/train"), &json!("data/val"))
    );
    let evaluate = dir.waggle(&["evaluate", "runs/train", "--data", "data"]);
    let (_, err) = stdout_and_stderr(&evaluate);
    assert_eq!(err, format!("{same}; the metrics include train images\n"));
    assert!(evaluate.status.success());
    let evaluate = [
        "evaluate",
        "runs/train",
        "--data",
        "data",
        "--split",
        "train",
    ];
    assert_eq!(stdout_and_stderr(&dir.waggle(&evaluate)).1, "");
}

#[test]
fn json_is_one_object_that_lists_all_unusable_images() {
    let dir = good();
    for number in 0..12 {
        dir.write(
            &format!("data/train/vertical/bad{number:02}.jpg"),
            b"not an image",
        );
    }
    let output = dir.waggle(&["check", "data", "--json", "--workers", "2"]);
    let (out, _) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&out);
    let [report] = &lines[..] else {
        panic!("{out}");
    };
    assert_eq!(report["serious"], true);
    assert_eq!(report["splits"][0]["classes"][1]["images"], 20);
    assert_eq!(report["unusable"].as_array().unwrap().len(), 12);
    assert_eq!(report["unusable"][3]["path"], "train/vertical/bad03.jpg");
    assert_eq!(report["thresholds"]["near_bits"], 10);
    let (table, _) = stdout_and_stderr(&dir.waggle(&["check", "data"]));
    assert!(table.contains("and 2 more (`--json` lists all)"), "{table}");
}

#[test]
fn max_pixels_limits_the_images_of_every_command_and_is_named_where_one_exceeds_it() {
    let dir = good();
    let (pixels, fewer) = ("12000", "11999");
    let model = train(&["--max-pixels", pixels]);
    dir.succeeds(&model);
    let table = dir.waggle(&["check", "data", "--max-pixels", fewer]);
    assert_eq!(table.status.code(), Some(1));
    let (table, _) = stdout_and_stderr(&table);
    let line = "00.png: 120 × 100 pixels exceed the limit of 11999 pixels; scale it down, or pass a larger `--max-pixels`";
    assert!(table.contains(line), "{table}");
    let image = "data/val/vertical/00.png";
    for command in [
        train(&["--out", "runs/other"]),
        vec!["evaluate", "runs/train"],
        vec!["predict", "runs/train", image],
        vec![
            "show",
            "--data",
            "data",
            "--out",
            "batch.png",
            "--overwrite",
        ],
    ] {
        dir.succeeds(&[&command[..], &["--max-pixels", pixels]].concat());
        let message = dir.fails(1, &[&command[..], &["--max-pixels", fewer]].concat());
        assert!(
            message.contains("pass `--max-pixels 12000`"),
            "{command:?}: {message}"
        );
    }
    // A finished run is not changed, but the flag is accepted.
    dir.succeeds(&["train", "--resume", "runs/train", "--max-pixels", pixels]);
}

/// Arguments for a transfer stage with one training epoch on `data`, and `--json`.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [train_without_json(more), vec!["--json"]].concat()
}

fn train_without_json<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--data", "data", "--weights", "tiny.safetensors"];
    arguments.extend(["--stage", "transfer", "--transfer-epochs", "2"]);
    arguments.extend(more);
    arguments
}

#[test]
fn a_bad_image_stops_training_or_is_skipped_with_an_event() {
    let dir = good();
    dir.write("data/train/vertical/bad.jpg", b"not an image");
    dir.write("data/val/horizontal/empty.png", b"");
    let message = dir.fails(1, &train(&[]));
    assert!(
        message.contains("train/vertical/bad.jpg") && message.contains("val/horizontal/empty.png")
    );
    let same = dir.fails(1, &train(&["--on-bad", "fail"]));
    assert_eq!(message, same);
    assert!(!dir.path("runs").exists());

    let events = json_lines(&dir.succeeds(&train(&["--on-bad", "skip"])));
    let skipped: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "skipped_image")
        .map(|event| event["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        skipped,
        ["train/vertical/bad.jpg", "val/horizontal/empty.png"]
    );
    let data = events
        .iter()
        .find(|event| event["event"] == "data")
        .unwrap();
    assert_eq!(
        (&data["train_images"], &data["val_images"]),
        (&16.into(), &8.into())
    );

    let config = String::from_utf8(dir.read("runs/train/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    assert_eq!(config["data"]["on_bad"].as_str(), Some("skip"));
    assert_eq!(config["data"]["train_images"].as_integer(), Some(16));
    let recorded = config["data"]["skipped"].as_array().unwrap();
    assert_eq!(recorded.len(), 2);
    assert_eq!(
        recorded[1]["path"].as_str(),
        Some("val/horizontal/empty.png")
    );
}

#[test]
fn skipping_gives_the_same_model_as_removing_the_bad_images() {
    let dir = good();
    dir.succeeds(&train(&["--out", "runs/clean"]));
    dir.write("data/train/horizontal/0.jpg", b"not an image");
    dir.succeeds(&train(&["--out", "runs/skipped", "--on-bad", "skip"]));
    let model = |run: &str| dir.read(&format!("runs/{run}/model.safetensors"));
    assert!(model("clean") == model("skipped"));
}

#[test]
fn training_warns_about_each_skipped_image() {
    let dir = good();
    dir.write("data/train/horizontal/bad.jpg", b"not an image");
    let (_, err) = stdout_and_stderr(&dir.waggle(&train_without_json(&["--on-bad", "skip"])));
    assert!(
        err.contains("warning: skipped train/horizontal/bad.jpg: "),
        "{err}"
    );
}

#[test]
fn evaluation_skips_the_images_that_training_skipped() {
    let dir = good();
    let evaluate = |more: &[&str]| {
        let arguments = [&["evaluate", "runs/train", "--json"], more].concat();
        json_lines(&dir.succeeds(&arguments)).remove(0)
    };
    let bad = ["data/val/horizontal/bad.jpg", "data/val/vertical/empty.png"];
    let spoil = || bad.map(|name| dir.write(name, b"not an image"));
    dir.write("data/train/vertical/bad.jpg", b"not an image");
    spoil();
    dir.succeeds(&train(&["--on-bad", "skip"]));
    let paths = |report: &Value| -> Vec<String> {
        let skipped = report["skipped"].as_array().unwrap().iter();
        skipped
            .map(|image| image["path"].as_str().unwrap().to_string())
            .collect()
    };

    // By default, `evaluate` skips the images that `config.toml` records as skipped. With `--on-bad
    // skip`, it decodes all images to find those to skip.
    let skipping = evaluate(&[]);
    assert_eq!(
        paths(&skipping),
        ["val/horizontal/bad.jpg", "val/vertical/empty.png"]
    );
    assert_eq!(evaluate(&["--data", "data"]), skipping);
    assert_eq!(evaluate(&["--on-bad", "skip"]), skipping);
    let training = evaluate(&["--split", "train"]);
    assert_eq!(paths(&training), ["train/vertical/bad.jpg"]);
    let (out, err) = stdout_and_stderr(&dir.waggle(&["evaluate", "runs/train"]));
    assert!(
        err.contains("warning: skipped val/horizontal/bad.jpg: "),
        "{err}"
    );
    assert!(out.contains("8 images"), "{out}");
    for name in bad {
        std::fs::remove_file(dir.path(name)).unwrap();
    }
    let without = evaluate(&[]);
    assert_eq!(paths(&without), [""; 0]);
    for part in ["loss", "accuracy", "confusion"] {
        assert_eq!(without[part], skipping[part]);
    }

    // With `--on-bad fail`, and by default for a model without a `config.toml` next to it, an error
    // lists all bad images.
    spoil();
    let model = std::fs::read(dir.path("runs/train/model.safetensors")).unwrap();
    dir.write("model.safetensors", &model);
    for arguments in [
        &["evaluate", "runs/train", "--on-bad", "fail"][..],
        &["evaluate", "model.safetensors", "--data", "data"],
    ] {
        let message = dir.fails(1, arguments);
        for part in [bad[0], bad[1], "2 of 10 images", "--on-bad skip"] {
            assert!(
                message.replace('\\', "/").contains(part),
                "{part}: {message}"
            );
        }
        assert!(!message.contains("batch"), "{message}");
    }
}

#[test]
fn show_skips_bad_images() {
    let dir = good();
    dir.write("data/train/horizontal/bad.jpg", b"not an image");
    dir.write("data/train/vertical/empty.png", b"");
    let show = ["show", "--data", "data", "--input-size", "32"];
    let message = dir.fails(1, &show);
    for part in ["bad.jpg", "empty.png", "2 of 18 images", "--on-bad skip"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let (out, err) = stdout_and_stderr(&dir.waggle(&[&show[..], &["--on-bad", "skip"]].concat()));
    assert!(
        err.contains("warning: skipped train/horizontal/bad.jpg: "),
        "{err}"
    );
    assert!(out.contains("16 images"), "{out}");
}

#[test]
fn show_draws_a_batch_of_good_images_next_to_a_bad_one() {
    let dir = good();
    dir.write("data/train/horizontal/bad.jpg", b"not an image");
    let show = ["show", "--data", "data", "--input-size", "32"];
    let out = dir.succeeds(&[&show[..], &["--batch-size", "1"]].concat());
    assert!(out.contains("1 image of data"), "{out}");
}

#[test]
fn a_class_of_only_bad_images_is_an_error() {
    let dir = good();
    for number in 0..4 {
        dir.write(
            &format!("data/val/vertical/{number:02}.png"),
            b"not an image",
        );
    }
    let message = dir.fails(1, &train(&["--on-bad", "skip"]));
    for part in ["cannot decode any image of `vertical`", "data/val"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!dir.path("runs").exists());
}

#[test]
#[cfg(unix)]
fn a_model_that_links_out_of_its_run_directory_is_an_error() {
    let dir = good();
    dir.succeeds(&train(&[]));
    std::fs::create_dir(dir.path("runs/foreign")).unwrap();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, dir.path(at)).unwrap();
    link(
        "../train/model.safetensors",
        "runs/foreign/model.safetensors",
    );
    let message = dir.fails(1, &["predict", "runs/foreign", "data/val"]);
    assert!(message.contains("outside its run directory"), "{message}");
    // A link to a whole run directory is allowed.
    link("train", "runs/latest");
    dir.succeeds(&["predict", "runs/latest", "data/val"]);
    // A device file is rejected, because reading from `/dev/zero` would never end.
    std::fs::create_dir(dir.path("runs/device")).unwrap();
    link("/dev/zero", "runs/device/model.safetensors");
    dir.fails(1, &["predict", "runs/device", "data/val"]);
}
