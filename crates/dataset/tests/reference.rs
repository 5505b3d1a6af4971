//! Compares class counts, transformed photographs and an image grid with torchvision. Also tests
//! the loader on photographs.
//!
//! The environment variable `WAGGLE_SHARED` is the path of the folder with the photographs and
//! torchvision's outputs. Without it, the tests are skipped.

mod common;

use std::io::Cursor;
use std::path::PathBuf;

use common::{difference, image, json, tensors};
use dataset::contact_sheet::{Grid, make_grid};
use dataset::transform::{Plan, Region, apply};
use dataset::{DecodeOptions, ImageFolder, Loader, LoaderConfig, Normalize, Transform, decode};
use image::RgbImage;
use tempfile::TempDir;

/// Unpacks the photographs. Returns the shared folder, the temporary folder and the root of the
/// data set, or `None` if `WAGGLE_SHARED` is not set.
fn photographs() -> Option<(PathBuf, TempDir, PathBuf)> {
    let Some(shared) = std::env::var_os("WAGGLE_SHARED").map(PathBuf::from) else {
        println!("skipped: `WAGGLE_SHARED` is not set");
        return None;
    };
    let folder = TempDir::new().unwrap();
    let bytes = std::fs::read(shared.join("data/hymenoptera_data.zip")).unwrap();
    zip::ZipArchive::new(Cursor::new(bytes))
        .unwrap()
        .extract(folder.path())
        .unwrap();
    let root = folder.path().join("hymenoptera_data");
    Some((shared, folder, root))
}

#[test]
fn class_counts_match_torchvision() {
    let Some((_, _folder, root)) = photographs() else {
        return;
    };
    let (train, val) = ImageFolder::train_and_val(root).unwrap();
    assert_eq!(train.classes(), ["ants", "bees"]);
    assert_eq!((train.len(), train.counts()), (244, vec![123, 121]));
    assert_eq!((val.len(), val.counts()), (153, vec![70, 83]));
    let both = [train.samples(), val.samples()].concat();
    dataset::verify(&both, &DecodeOptions::default(), 2).unwrap();
}

#[test]
fn transformed_photographs_match_torchvision() {
    let Some((shared, _folder, root)) = photographs() else {
        return;
    };
    let values = tensors(&shared.join("golden/photos/transforms.safetensors"));
    let records = json(&shared.join("golden/photos/transforms.json"));
    let records = records.as_array().unwrap();
    assert!(!records.is_empty());
    let without_exif = DecodeOptions::default().ignore_exif(true);
    let mut worst = 0.0;
    let mut compare = |name: String, actual: &RgbImage| {
        let (mean, largest) = difference(actual, &image(&values[&name]));
        println!("{name}: mean {mean:.3}, largest {largest}");
        assert!(mean < 0.5, "{name}: mean {mean}, largest {largest}");
        worst = f64::max(worst, mean);
    };
    for (k, record) in records.iter().enumerate() {
        let photograph =
            decode(root.join(record["file"].as_str().unwrap()), &without_exif).unwrap();
        let (width, height) = photograph.dimensions();
        assert_eq!(
            [width, height],
            [&record["size_wh"][0], &record["size_wh"][1]].map(|n| n.as_u64().unwrap() as u32)
        );
        let size = values[&format!("{k}.eval")].dims()[0] as u32;
        let plan = Transform::eval(size).eval_plan(width, height);
        let eval = apply(&photograph, &plan).unwrap();
        compare(format!("{k}.eval"), &eval);
        if let Some(expected) = values.get(&format!("{k}.eval.normalized")) {
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut actual = Vec::new();
            Normalize::IMAGENET.append(&eval, &mut actual);
            assert_eq!(actual.len(), expected.len());
            let sum: f64 = actual
                .iter()
                .zip(&expected)
                .map(|(a, b)| f64::from((a - b).abs()))
                .sum();
            // The tolerance is half a level, divided by the smallest standard deviation.
            let mean = sum / actual.len() as f64;
            assert!(
                mean < 0.5 / 255.0 / 0.224,
                "{k}.eval.normalized: mean {mean}"
            );
        }
        for (j, crop) in record["crops"].as_array().unwrap().iter().enumerate() {
            let side = |name: &str| crop[name].as_u64().unwrap() as u32;
            let region = Region {
                top: side("top"),
                left: side("left"),
                height: side("height"),
                width: side("width"),
            };
            let plan = Plan::resized_crop(region, size, crop["flip"].as_bool().unwrap());
            compare(format!("{k}.crop{j}"), &apply(&photograph, &plan).unwrap());
        }
    }
    println!("worst mean {worst:.3}");
}

#[test]
fn grid_of_photographs_matches_torchvision() {
    let Some((shared, _folder, _)) = photographs() else {
        return;
    };
    let values = tensors(&shared.join("golden/photos/transforms.safetensors"));
    let images: Vec<RgbImage> = (0..4)
        .map(|k| image(&values[&format!("{k}.eval")]))
        .collect();
    let grid = &tensors(&shared.join("golden/photos/grid.safetensors"))["grid"];
    let expected = image(&grid.permute((1, 2, 0)).unwrap());
    assert_eq!(make_grid(&images, &Grid::default()).unwrap(), expected);
}

#[test]
fn workers_and_cache_do_not_change_an_epoch_of_photographs() {
    let Some((_, _folder, root)) = photographs() else {
        return;
    };
    let (train, _) = ImageFolder::train_and_val(root).unwrap();
    let epoch = |workers, cache_bytes| {
        let config = LoaderConfig::train(224)
            .workers(workers)
            .cache_bytes(cache_bytes);
        let loader = Loader::new(train.samples(), config).unwrap();
        assert_eq!(loader.batches(), 8);
        let batches: Vec<_> = loader.epoch(3).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            batches
                .iter()
                .map(|batch| batch.indices.len())
                .collect::<Vec<_>>(),
            [32, 32, 32, 32, 32, 32, 32, 20]
        );
        batches
            .iter()
            .map(|batch| {
                batch
                    .images
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap()
            })
            .collect::<Vec<_>>()
    };
    let single = epoch(1, 0);
    assert!(epoch(4, 20 << 20) == single);
}
