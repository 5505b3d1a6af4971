//! `waggle check`: its table, its JSON, its exit codes; and `waggle train --on-bad`.

mod harness;

use harness::{Place, json_lines, texts};
use image::{Rgb, RgbImage};

/// A data folder whose pictures all differ: a few large patches of colours, which the seed decides.
fn patches(place: &Place, name: &str, seed: u32) {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    let colours: Vec<Rgb<u8>> = (0..30).map(|_| Rgb([next(), next(), next()])).collect();
    let picture = RgbImage::from_fn(120, 100, |x, y| colours[(x / 20 + y / 20 * 6) as usize]);
    let path = place.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn good() -> Place {
    let place = Place::new();
    let mut seed = 0;
    for (split, count) in [("train", 8), ("val", 4)] {
        for class in ["across", "down"] {
            for number in 0..count {
                seed += 1;
                patches(
                    &place,
                    &format!("data/{split}/{class}/{number:02}.png"),
                    seed,
                );
            }
        }
    }
    place.tiny_weights("tiny.safetensors", 10);
    place
}

#[test]
fn a_good_folder_is_nothing_serious() {
    let place = good();
    let out = place.succeeds(&["check", "data"]);
    assert!(out.contains("across        8           4"), "{out}");
    assert!(out.contains("24 pictures read."), "{out}");
    assert!(out.ends_with("Nothing serious.\n"), "{out}");
    assert!(!out.contains('!'), "{out}");
}

#[test]
fn serious_findings_are_marked_and_exit_with_one() {
    let place = good();
    let picture = place.read("data/train/across/00.png");
    place.write("data/val/down/leak.png", &picture);
    place.write("data/train/down/half.png", &picture[..picture.len() / 2]);
    place.write("data/train/down/notes.txt", b"text");
    let output = place.waggle(&["check", "data"]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    for part in [
        "! Pictures that cannot be decoded: 1\n    train/down/half.png: ",
        "! Pictures both in train and in val (leaks): 1\n    the same file: train/across/00.png, val/down/leak.png",
        "! Pictures in more than one class (contradicting labels): 1",
        "\nFiles and folders that are not used: 1\n    train/down/notes.txt: no extension of a picture",
        "Serious findings are marked with `!`.",
    ] {
        assert!(out.contains(part), "{part:?} is not in:\n{out}");
    }
    assert_eq!(err, "", "no bar where there is no terminal");
}

#[test]
fn a_class_that_val_does_not_measure_is_told_of() {
    let place = good();
    std::fs::remove_dir_all(place.path("data/val/down")).unwrap();
    let out = place.succeeds(&["check", "data"]);
    for part in ["\nClasses without a folder in val", ": 1\n    down\n"] {
        assert!(out.contains(part), "{part:?}: {out}");
    }
    let report = &json_lines(&place.succeeds(&["check", "data", "--json"]))[0];
    assert_eq!(report["unmeasured_classes"], serde_json::json!(["down"]));
    let events = json_lines(&place.succeeds(&train(&[])));
    let told = events
        .iter()
        .find(|event| event["event"] == "unmeasured_classes");
    assert_eq!(told.unwrap()["classes"], serde_json::json!(["down"]));
    let people: Vec<_> = train(&[])
        .into_iter()
        .filter(|argument| *argument != "--json")
        .collect();
    let out = place.succeeds(&people);
    assert!(out.contains("Warning: val has no pictures of "), "{out}");
}

#[test]
fn json_is_one_object_with_everything() {
    let place = good();
    for number in 0..12 {
        place.write(
            &format!("data/train/down/bad{number:02}.jpg"),
            b"no picture",
        );
    }
    let output = place.waggle(&["check", "data", "--json", "--workers", "2"]);
    let (out, _) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&out);
    let [report] = &lines[..] else {
        panic!("{out}");
    };
    assert_eq!(report["serious"], true);
    assert_eq!(report["splits"][0]["classes"][1]["pictures"], 20);
    assert_eq!(report["unusable"].as_array().unwrap().len(), 12);
    assert_eq!(report["unusable"][3]["path"], "train/down/bad03.jpg");
    assert_eq!(report["thresholds"]["near_bits"], 10);
    let (table, _) = texts(&place.waggle(&["check", "data"]));
    assert!(table.contains("and 2 more; --json names all"), "{table}");
}

/// A short training on `data`.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--data", "data", "--weights", "tiny.safetensors"];
    arguments.extend(["--stage", "transfer", "--transfer-epochs", "2", "--json"]);
    arguments.extend(more);
    arguments
}

#[test]
fn a_bad_picture_ends_training_or_is_left_out_aloud() {
    let place = good();
    place.write("data/train/down/bad.jpg", b"no picture");
    place.write("data/val/across/empty.png", b"");
    let message = place.fails(1, &train(&[]));
    assert!(message.contains("train/down/bad.jpg") && message.contains("val/across/empty.png"));
    let same = place.fails(1, &train(&["--on-bad", "fail"]));
    assert_eq!(message, same);
    assert!(!place.path("runs").exists());

    let events = json_lines(&place.succeeds(&train(&["--on-bad", "skip"])));
    let skipped: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "skipped_picture")
        .map(|event| event["path"].as_str().unwrap())
        .collect();
    assert_eq!(skipped, ["train/down/bad.jpg", "val/across/empty.png"]);
    let data = events
        .iter()
        .find(|event| event["event"] == "data")
        .unwrap();
    assert_eq!(
        (&data["train_pictures"], &data["val_pictures"]),
        (&16.into(), &8.into())
    );

    let config = String::from_utf8(place.read("runs/train/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    assert_eq!(config["data"]["on_bad"].as_str(), Some("skip"));
    assert_eq!(config["data"]["train_pictures"].as_integer(), Some(16));
    let recorded = config["data"]["skipped"].as_array().unwrap();
    assert_eq!(recorded.len(), 2);
    assert_eq!(recorded[1]["path"].as_str(), Some("val/across/empty.png"));
}

#[test]
fn skipping_gives_the_model_of_a_folder_without_the_bad_pictures() {
    let place = good();
    place.succeeds(&train(&["--out", "runs/clean"]));
    place.write("data/train/across/0.jpg", b"no picture");
    place.succeeds(&train(&["--out", "runs/skipped", "--on-bad", "skip"]));
    let model = |run: &str| place.read(&format!("runs/{run}/model.safetensors"));
    assert!(model("clean") == model("skipped"));
}

#[test]
fn a_terminal_run_names_what_it_skips() {
    let place = good();
    place.write("data/train/across/bad.jpg", b"no picture");
    let arguments: Vec<_> = train(&["--on-bad", "skip"])
        .into_iter()
        .filter(|argument| *argument != "--json")
        .collect();
    let out = place.succeeds(&arguments);
    assert!(out.contains("Skipped: train/across/bad.jpg: "), "{out}");
}

#[test]
fn a_model_is_measured_without_the_pictures_that_training_left_out() {
    let place = good();
    let clean = |more: &[&str]| {
        let arguments = [&["evaluate", "runs/train", "--json"], more].concat();
        json_lines(&place.succeeds(&arguments)).remove(0)
    };
    let bad = ["data/val/across/bad.jpg", "data/val/down/empty.png"];
    let spoil = || bad.map(|name| place.write(name, b"no picture"));
    place.write("data/train/down/bad.jpg", b"no picture");
    spoil();
    place.succeeds(&train(&["--on-bad", "skip"]));
    let paths = |report: &serde_json::Value| -> Vec<String> {
        let skipped = report["skipped"].as_array().unwrap().iter();
        skipped
            .map(|it| it["path"].as_str().unwrap().to_string())
            .collect()
    };

    // The run knows what it left out, also where its folder is named; --on-bad skip looks for itself.
    let own = clean(&[]);
    assert_eq!(paths(&own), ["val/across/bad.jpg", "val/down/empty.png"]);
    assert_eq!(clean(&["--data", "data"]), own);
    assert_eq!(clean(&["--on-bad", "skip"]), own);
    let training = clean(&["--split", "train"]);
    assert_eq!(paths(&training), ["train/down/bad.jpg"]);
    let out = place.succeeds(&["evaluate", "runs/train"]);
    for part in ["Skipped: val/across/bad.jpg: ", "8 pictures"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for name in bad {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let without = clean(&[]);
    assert_eq!(paths(&without), [""; 0]);
    for part in ["loss", "accuracy", "confusion"] {
        assert_eq!(without[part], own[part]);
    }

    // What the run does not know of ends the command, all of it named; so does what it knows when that is asked for.
    spoil();
    let model = std::fs::read(place.path("runs/train/model.safetensors")).unwrap();
    place.write("model.safetensors", &model);
    for arguments in [
        &["evaluate", "runs/train", "--on-bad", "fail"][..],
        &["evaluate", "model.safetensors", "--data", "data"],
    ] {
        let message = place.fails(1, arguments);
        for part in [bad[0], bad[1], "2 of 10 pictures", "--on-bad skip"] {
            assert!(
                message.replace('\\', "/").contains(part),
                "{part}: {message}"
            );
        }
        assert!(!message.contains("batch"), "{message}");
    }
}

#[test]
fn a_batch_is_shown_without_bad_pictures() {
    let place = good();
    place.write("data/train/across/bad.jpg", b"no picture");
    place.write("data/train/down/empty.png", b"");
    let show = ["show", "--data", "data", "--input-size", "32"];
    let message = place.fails(1, &show);
    for part in ["bad.jpg", "empty.png", "2 of 18 pictures", "--on-bad skip"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let out = place.succeeds(&[&show[..], &["--on-bad", "skip"]].concat());
    for part in ["Skipped: train/across/bad.jpg: ", "16 pictures"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn a_class_without_a_usable_picture_is_an_error() {
    let place = good();
    for number in 0..4 {
        place.write(&format!("data/val/down/{number:02}.png"), b"no picture");
    }
    let message = place.fails(1, &train(&["--on-bad", "skip"]));
    for part in ["--on-bad skip", "`down`", "data/val"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!place.path("runs").exists());
}

#[test]
#[cfg(unix)]
fn a_model_path_does_not_lead_out_of_its_run_directory() {
    let place = good();
    place.succeeds(&train(&[]));
    std::fs::create_dir(place.path("runs/foreign")).unwrap();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, place.path(at)).unwrap();
    link(
        "../train/model.safetensors",
        "runs/foreign/model.safetensors",
    );
    let message = place.fails(1, &["predict", "runs/foreign", "data/val"]);
    assert!(
        message.contains("leads out of its run directory"),
        "{message}"
    );
    // A link to a whole run directory is the user's own.
    link("train", "runs/latest");
    place.succeeds(&["predict", "runs/latest", "data/val"]);
    // Neither a pipe nor a device is waited for.
    std::fs::create_dir(place.path("runs/device")).unwrap();
    link("/dev/zero", "runs/device/model.safetensors");
    place.fails(1, &["predict", "runs/device", "data/val"]);
}
