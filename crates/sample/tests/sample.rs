//! Tests of the built-in sample: reproducible pixels, complete directories, errors, and classes
//! that colors alone do not separate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use image::RgbImage;
use rayon::prelude::*;
use sample::{COUNTS, Class, Counts, Error, INSECTS, PRETRAINING, SEED, Split, Written};

/// Returns all images in a split of the built-in sample, with their labels.
fn images(split: Split) -> Vec<(RgbImage, usize)> {
    let draw = |i: usize| (INSECTS[i % 2].image(SEED, split, (i / 2) as u64), i % 2);
    (0..2 * COUNTS.of(split))
        .into_par_iter()
        .map(draw)
        .collect()
}

/// Returns the 64-bit FNV-1a hash of the widths and pixels of `images`.
fn hash(images: &[RgbImage]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for image in images {
        image.width().to_le_bytes().into_iter().for_each(&mut add);
        image.as_raw().iter().copied().for_each(&mut add);
    }
    hash
}

/// The expected hashes were computed on x86-64.
///
/// A change of the drawings changes the data that users train on and the data that the pretrained
/// backbone was trained on. It requires a new version in `folder.rs`, a new backbone, and new
/// measurements.
#[test]
fn pixels_are_the_same_on_every_machine() {
    let draw_first = |classes: &[Class], count: u64| -> Vec<RgbImage> {
        let draw = |class: &Class| {
            (0..count)
                .map(|i| class.image(SEED, Split::Train, i))
                .collect::<Vec<_>>()
        };
        classes.iter().flat_map(draw).collect()
    };
    let (insects, others) = (
        hash(&draw_first(&INSECTS, 60)),
        hash(&draw_first(&PRETRAINING, 12)),
    );
    let expected = (0x9f72_9885_073a_20c3, 0x1172_98e7_b8de_df1c);
    assert_eq!((insects, others), expected, "{insects:#x} {others:#x}");
}

#[test]
fn an_image_depends_on_seed_split_class_and_index() {
    let ants = &INSECTS[0];
    let first = ants.image(1, Split::Train, 0);
    assert_eq!(first, ants.image(1, Split::Train, 0));
    for other in [
        ants.image(2, Split::Train, 0),
        ants.image(1, Split::Val, 0),
        ants.image(1, Split::Train, 1),
        INSECTS[1].image(1, Split::Train, 0),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn all_images_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/sample");
    assert_eq!(sample::write(&root).unwrap(), Written::Drawn);
    assert_eq!(names(&root), [".drawn", "train", "val"]);
    assert_eq!(
        names(root.parent().unwrap()),
        ["sample"],
        "temporary files are left"
    );

    let mut sizes = BTreeSet::new();
    for split in Split::ALL {
        assert_eq!(names(&root.join(split.name())), ["ants", "bees"]);
        for class in &INSECTS {
            let folder = root.join(split.name()).join(class.name());
            let files = names(&folder);
            assert_eq!(
                files.len(),
                COUNTS.of(split),
                "a class has the wrong number of images"
            );
            for (index, file) in files.iter().enumerate() {
                assert_eq!(*file, format!("{index:03}.png"));
                let decoded = image::open(folder.join(file)).unwrap();
                let image::DynamicImage::ImageRgb8(decoded) = decoded else {
                    panic!("{file} is not RGB8");
                };
                let (width, height) = decoded.dimensions();
                assert!((72..=140).contains(&width) && (72..=140).contains(&height));
                sizes.insert((width, height));
                if index % 25 == 0 {
                    assert_eq!(decoded, class.image(SEED, split, index as u64));
                }
            }
        }
    }
    assert!(sizes.len() > 300, "too few different sizes");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_unchanged_sample_is_kept_and_a_changed_sample_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("sample");
    let write = |seed| {
        let counts = Counts { train: 2, val: 1 };
        sample::write_classes(&root, &INSECTS, seed, counts).unwrap()
    };
    let path = root.join("train/bees/001.png");
    assert_eq!(write(1), Written::Drawn);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(write(1), Written::UpToDate);

    fs::remove_file(&path).unwrap();
    assert_eq!(write(1), Written::Drawn, "a missing image was not detected");
    assert_eq!(fs::read(&path).unwrap(), bytes);

    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(
        write(1),
        Written::Drawn,
        "a truncated image was not detected"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);

    fs::write(root.join("train/bees/.DS_Store"), b"").unwrap();
    assert_eq!(write(1), Written::Drawn, "an added file was not detected");
    assert_eq!(names(&root.join("train/bees")), ["000.png", "001.png"]);

    assert_eq!(
        write(2),
        Written::Drawn,
        "a different seed was not detected"
    );
    assert_ne!(fs::read(&path).unwrap(), bytes);
    assert_eq!(names(folder.path()), ["sample"], "temporary files are left");
}

#[test]
fn an_image_that_a_user_adds_to_the_sample_is_an_error_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("sample");
    let counts = Counts { train: 2, val: 1 };
    sample::write_classes(&root, &INSECTS, 1, counts).unwrap();
    let added = root.join("train/bees/my holiday.png");
    fs::write(&added, b"mine").unwrap();
    // Another seed would replace the directory too.
    for seed in [1, 2] {
        let error = sample::write_classes(&root, &INSECTS, seed, counts).unwrap_err();
        assert!(
            matches!(&error, Error::UnknownFile { path } if *path == added),
            "{error}"
        );
        assert_eq!(fs::read(&added).unwrap(), b"mine");
    }
    fs::remove_file(&added).unwrap();
    let written = sample::write_classes(&root, &INSECTS, 1, counts).unwrap();
    assert_eq!(written, Written::UpToDate);
}

#[test]
fn an_unrelated_directory_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("sample");
    fs::create_dir_all(root.join("train/ants")).unwrap();
    fs::write(root.join("train/ants/holiday.png"), b"unrelated").unwrap();
    let error = sample::write(&root).unwrap_err();
    assert!(matches!(error, Error::UnknownDirectory { .. }), "{error}");
    assert_eq!(error.help().unwrap(), "remove the directory, or move it");
    assert_eq!(names(&root.join("train/ants")), ["holiday.png"]);
    assert_eq!(names(folder.path()), ["sample"]);
}

#[test]
fn a_write_error_contains_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = sample::write(file.join("sample")).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn pretraining_has_many_classes_but_no_insects_of_the_sample() {
    let names: Vec<_> = PRETRAINING.iter().map(Class::name).collect();
    assert!(names.len() >= 20);
    assert!(
        names.is_sorted_by(|a, b| a < b),
        "the classes are not in alphabetical order"
    );
    assert!(INSECTS.iter().all(|insect| !names.contains(&insect.name())));
    let first_images: BTreeSet<_> = PRETRAINING
        .iter()
        .map(|class| class.image(SEED, Split::Train, 0).into_raw())
        .collect();
    assert_eq!(first_images.len(), names.len());
}

/// Returns the means of the three channels, then their standard deviations. Values are from 0 to 1.
fn color_statistics(image: &RgbImage) -> [f64; 6] {
    let count = f64::from(image.width() * image.height());
    let (mut sums, mut squares) = ([0.0; 3], [0.0; 3]);
    for pixel in image.pixels() {
        for c in 0..3 {
            let value = f64::from(pixel.0[c]) / 255.0;
            sums[c] += value;
            squares[c] += value * value;
        }
    }
    let mean = sums.map(|sum| sum / count);
    let deviation = |c: usize| (squares[c] / count - mean[c] * mean[c]).max(0.0).sqrt();
    [
        mean[0],
        mean[1],
        mean[2],
        deviation(0),
        deviation(1),
        deviation(2),
    ]
}

/// Fits a logistic regression to `features` by gradient descent, until it converges or for 20,000
/// steps. Returns the weights and, last, the bias.
fn logistic_regression(features: &[Vec<f64>], labels: &[usize]) -> Vec<f64> {
    let mut weights = vec![0.0; features[0].len() + 1];
    for _ in 0..20_000 {
        let mut gradient = vec![0.0; weights.len()];
        for (row, &label) in features.iter().zip(labels) {
            let residual = 1.0 / (1.0 + (-logit(&weights, row)).exp()) - label as f64;
            for (g, x) in gradient.iter_mut().zip(row.iter().chain([&1.0])) {
                *g += residual * x / labels.len() as f64;
            }
        }
        for (w, g) in weights.iter_mut().zip(&gradient) {
            *w -= 0.5 * g;
        }
        if gradient.iter().all(|g| g.abs() < 1e-6) {
            break;
        }
    }
    weights
}

fn logit(weights: &[f64], row: &[f64]) -> f64 {
    row.iter()
        .chain([&1.0])
        .zip(weights)
        .map(|(x, w)| x * w)
        .sum()
}

#[test]
fn colors_alone_do_not_separate_the_classes() {
    let (train, val) = (images(Split::Train), images(Split::Val));
    for (statistics, features) in [("mean", 3), ("mean and deviation", 6)] {
        let rows = |set: &[(RgbImage, usize)]| -> Vec<Vec<f64>> {
            set.iter()
                .map(|(image, _)| color_statistics(image)[..features].to_vec())
                .collect()
        };
        let (mut train_rows, mut val_rows) = (rows(&train), rows(&val));
        for f in 0..features {
            let mean = train_rows.iter().map(|row| row[f]).sum::<f64>() / train_rows.len() as f64;
            let variance = train_rows
                .iter()
                .map(|row| (row[f] - mean).powi(2))
                .sum::<f64>()
                / train_rows.len() as f64;
            for row in train_rows.iter_mut().chain(&mut val_rows) {
                row[f] = (row[f] - mean) / variance.sqrt();
            }
        }
        let labels: Vec<_> = train.iter().map(|(_, label)| *label).collect();
        let weights = logistic_regression(&train_rows, &labels);
        let correct = val_rows
            .iter()
            .zip(&val)
            .filter(|(row, (_, label))| usize::from(logit(&weights, row) > 0.0) == *label)
            .count();
        let accuracy = correct as f64 / val.len() as f64;
        println!(
            "{statistics} of the colors: val accuracy {:.1} %",
            100.0 * accuracy
        );
        assert!(accuracy < 0.65, "{statistics} of the colors: {accuracy:.3}");
    }
}
