//! Eight of the photographs through decoding and the transforms, against what torchvision makes of them.
//!
//! Needs the folder with the photographs: `WAGGLE_SHARED` names it. Without it, the tests are skipped.

mod common;

use std::io::Cursor;
use std::path::PathBuf;

use common::{difference, image, json, tensors};
use dataset::contact_sheet::{Grid, make_grid};
use dataset::transform::{Plan, Region, apply};
use dataset::{DecodeOptions, ImageFolder, Loader, LoaderConfig, Normalize, Transform, decode};
use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// The shared folder, and the photographs unpacked.
fn photographs() -> Option<(PathBuf, TempDir, PathBuf)> {
    let Some(shared) = std::env::var_os("WAGGLE_SHARED").map(PathBuf::from) else {
        println!("skipped: set WAGGLE_SHARED");
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
fn photographs_are_counted_as_torchvision_does() {
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
fn photographs_are_transformed_as_torchvision_does() {
    let Some((shared, _folder, root)) = photographs() else {
        return;
    };
    let values = tensors(&shared.join("golden/photos/transforms.safetensors"));
    let facts = json(&shared.join("golden/photos/transforms.json"));
    let facts = facts.as_array().unwrap();
    assert!(!facts.is_empty());
    let as_torchvision = DecodeOptions {
        ignore_exif: true,
        ..DecodeOptions::default()
    };
    let mut worst = 0.0;
    let mut check = |name: String, ours: &RgbImage| {
        let (mean, largest) = difference(ours, &image(&values[&name]));
        println!("{name}: mean {mean:.3}, largest {largest}");
        assert!(mean < 0.5, "{name}: mean {mean}, largest {largest}");
        worst = f64::max(worst, mean);
    };
    for (k, record) in facts.iter().enumerate() {
        let photograph =
            decode(root.join(record["file"].as_str().unwrap()), &as_torchvision).unwrap();
        let (width, height) = photograph.dimensions();
        assert_eq!(
            [width, height],
            [&record["size_wh"][0], &record["size_wh"][1]].map(|n| n.as_u64().unwrap() as u32)
        );
        let size = values[&format!("{k}.eval")].dims()[0] as u32;
        let plan = Transform::eval(size).plan(width, height, &mut ChaCha8Rng::seed_from_u64(0));
        let eval = apply(&photograph, &plan).unwrap();
        check(format!("{k}.eval"), &eval);
        if let Some(expected) = values.get(&format!("{k}.eval.normalized")) {
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut ours = Vec::new();
            Normalize::IMAGENET.append(&eval, &mut ours);
            assert_eq!(ours.len(), expected.len());
            let sum: f64 = ours
                .iter()
                .zip(&expected)
                .map(|(a, b)| f64::from((a - b).abs()))
                .sum();
            // Half a level, in units of the smallest standard deviation.
            let mean = sum / ours.len() as f64;
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
            check(format!("{k}.crop{j}"), &apply(&photograph, &plan).unwrap());
        }
    }
    println!("worst mean {worst:.3}");
}

#[test]
fn the_grid_of_photographs_is_torchvisions() {
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
fn an_epoch_of_photographs_is_the_same_for_any_number_of_workers() {
    let Some((_, _folder, root)) = photographs() else {
        return;
    };
    let (train, _) = ImageFolder::train_and_val(root).unwrap();
    let epoch = |workers, cache_bytes| {
        let config = LoaderConfig {
            workers,
            cache_bytes,
            ..LoaderConfig::train(224)
        };
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
    let one = epoch(1, 0);
    assert!(epoch(4, 20 << 20) == one);
}
