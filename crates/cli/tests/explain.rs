//! Tests of `explain`: its files and their names, the classes, and the folders that it refuses.

mod harness;

use std::path::Path;

use candle_core::Tensor;
use harness::{TestDir, json_lines, stdout_and_stderr};
use serde_json::Value;

/// A directory with a data set and the model `runs/train`, which is its baseline.
fn trained() -> TestDir {
    let dir = TestDir::with_stripes();
    let arguments =
        "train --data data --weights tiny.safetensors --stage transfer --transfer-epochs 1";
    dir.succeeds(&arguments.split(' ').collect::<Vec<_>>());
    dir
}

/// Runs `explain runs/train` with `arguments` and `--json`, and returns the lines.
fn explain(dir: &TestDir, arguments: &[&str]) -> Vec<Value> {
    let line = [&["explain", "runs/train", "--json"], arguments].concat();
    json_lines(&dir.succeeds(&line))
}

/// The values of the map of a line, after checks of its shape and range.
fn map(dir: &TestDir, line: &Value) -> Vec<f32> {
    let path = dir.path(line["map"].as_str().expect("the path of the map"));
    let map = Tensor::read_npy(&path).expect("an array");
    assert_eq!(map.dims(), [32, 32]);
    let values: Vec<f32> = map.flatten_all().and_then(|map| map.to_vec1()).unwrap();
    assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
    values
}

#[test]
fn each_image_gets_an_overlay_and_a_map_of_its_predicted_class() {
    let dir = trained();
    let images = ["data/val/horizontal/00.png", "data/val/vertical/03.png"];
    let lines = explain(&dir, &images);
    let predictions = dir.succeeds(&[&["predict", "runs/train", "--json"], &images[..]].concat());
    for (line, prediction) in lines.iter().zip(json_lines(&predictions)) {
        for field in ["path", "class"] {
            assert_eq!(line[field], prediction[field]);
        }
        let probability = |line: &Value| line["probability"].as_f64().unwrap();
        assert!((probability(line) - probability(&prediction)).abs() < 1e-5);
        assert!(map(&dir, line).iter().any(|value| *value > 0.99));
        let overlay = dir.read(line["overlay"].as_str().unwrap());
        let overlay = image::load_from_memory(&overlay).unwrap();
        assert_eq!((overlay.width(), overlay.height()), (224, 224));
    }
    assert_eq!(
        dir.files("runs/explain"),
        ["00.npy", "00.png", "03.npy", "03.png"]
    );
    let text = dir.succeeds(&["explain", "runs/train", images[0], "-o", "maps"]);
    let class = lines[0]["class"].as_str().unwrap();
    assert!(
        text.starts_with(&format!("{}: {class} ", images[0])),
        "{text}"
    );
    assert!(text.ends_with(" %, maps/00.png, maps/00.npy\n"), "{text}");
}

#[test]
fn the_class_the_method_and_the_layer_can_be_chosen() {
    let dir = trained();
    let image = "data/val/horizontal/00.png";
    let by_class = ["horizontal", "vertical"].map(|class| {
        let line = explain(&dir, &[image, "--class", class]).remove(0);
        assert_eq!(line["class"], class);
        line
    });
    let probabilities = by_class
        .each_ref()
        .map(|line| line["probability"].as_f64().unwrap());
    let sum: f64 = probabilities.iter().sum();
    assert!((sum - 1.0).abs() < 1e-5, "{probabilities:?}");
    assert_ne!(map(&dir, &by_class[0]), map(&dir, &by_class[1]));

    let mut maps: Vec<Vec<f32>> = Vec::new();
    for method in ["layercam", "gradcam", "gradcam++"] {
        for layer in ["features.1", "features.8"] {
            let line = &explain(&dir, &[image, "--method", method, "--layer", layer])[0];
            let map = map(&dir, line);
            assert!(!maps.contains(&map), "{method} of {layer}");
            maps.push(map);
        }
    }
}

#[test]
fn the_maps_of_an_earlier_call_are_kept() {
    let dir = trained();
    let image = "data/val/horizontal/00.png";
    explain(&dir, &[image]);
    let first = dir.contents("runs/explain");
    let second = &explain(&dir, &[image, "--method", "gradcam"])[0];
    assert_eq!(second["overlay"], "runs/explain-2/00.png");
    dir.write("mine/00.png", b"mine");
    let third = &explain(&dir, &[image, "--out", "mine"])[0];
    assert_eq!(third["overlay"], "mine-2/00.png");
    assert_eq!(dir.contents("runs/explain"), first);
    assert_eq!(dir.read("mine/00.png"), b"mine");
}

#[test]
fn images_with_equal_names_in_two_folders_get_files_of_their_own() {
    let dir = trained();
    let lines = explain(&dir, &["data/val"]);
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[0]["overlay"], "runs/explain/00.png");
    assert_eq!(lines[6]["path"], "data/val/vertical/00.png");
    assert_eq!(lines[6]["overlay"], "runs/explain/00-2.png");
    assert_eq!(dir.files("runs/explain").len(), 24);
}

#[test]
fn an_image_without_a_map_is_reported_and_the_others_are_explained() {
    let dir = trained();
    dir.image("new/a.png", 0, 1);
    dir.write("new/b.png", b"broken");
    dir.image("new/c.png", 1, 2);
    let output = dir.waggle(&["explain", "runs/train", "new", "missing.png", "--json"]);
    let (out, err) = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let lines = json_lines(&out);
    for (line, is_good) in lines.iter().zip([true, false, true, false]) {
        assert_eq!(line["map"].is_string(), is_good, "{line}");
        assert_eq!(line["error"].is_string(), !is_good, "{line}");
    }
    assert_eq!(err.matches("error: ").count(), 2, "{err}");
    assert_eq!(dir.files("runs/explain").len(), 4);
    // Without any map, no folder is created.
    dir.fails(1, &["explain", "runs/train", "missing.png", "-o", "none"]);
    assert!(!dir.path("none").exists());
}

#[test]
fn maps_that_would_be_read_as_images_are_refused() {
    let dir = trained();
    dir.image("new/a.png", 0, 1);
    let image = "data/val/vertical/00.png";
    for (images, out, message) in [
        (
            "new",
            "new/maps",
            "`new/maps` is inside the folder of images `new`",
        ),
        ("new", "new", "`new` is inside the folder of images `new`"),
        (image, "data/val/vertical", "is inside the data set"),
        (image, "data/train/vertical/maps", "is inside the data set"),
        (image, "data/train/maps", "is inside the data set"),
    ] {
        let err = dir.fails(1, &["explain", "runs/train", images, "-o", out]);
        assert!(err.contains(message), "{out}: {err}");
        assert!(err.contains("with `--out`"), "{err}");
    }
    // A folder next to the splits is not read.
    explain(&dir, &[image, "-o", "data/maps"]);
    let is_image = |path: &Path| path.extension().is_some_and(|kind| kind == "png");
    let images = dir.contents("data/val");
    assert_eq!(images.iter().filter(|(path, _)| is_image(path)).count(), 12);
}

#[test]
#[cfg(unix)]
fn hostile_names_and_paths_on_standard_input_give_safe_file_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = trained();
    let names: [&[u8]; 5] = [
        b"caf\xe9.png",
        b"caf\xe8.png",
        b"-o\nx.png",
        b".png.png",
        "蚂蚁 1.png".as_bytes(),
    ];
    let mut list = Vec::new();
    for name in names {
        let path = dir.path(".").join(OsStr::from_bytes(name));
        std::fs::copy(dir.path("data/val/vertical/00.png"), path).unwrap();
        list.extend(name);
        list.push(0);
    }
    let output = dir.with_input(&["explain", "runs/train", "-0", "--json"], &list);
    assert!(output.status.success());
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(lines[0]["path"], r#""caf\351.png""#);
    let overlays: Vec<_> = lines.iter().map(|line| &line["overlay"]).collect();
    let expected = ["caf_", "caf_-2", "_-o_x", "_.png", "蚂蚁 1"];
    let expected = expected.map(|name| format!("runs/explain/{name}.png"));
    assert_eq!(overlays, expected.each_ref());
    assert_eq!(dir.files("runs/explain").len(), 10);
}
