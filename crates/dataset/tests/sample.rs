//! The drawn sample: the same everywhere, complete, and not solvable by looking at colours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dataset::sample::{
    self, COUNTS, Class, Counts, Error, INSECTS, PRETRAINING, SEED, Split, Written,
};
use image::RgbImage;
use rayon::prelude::*;

/// All pictures of a split of the sample, with their labels.
fn pictures(split: Split) -> Vec<(RgbImage, usize)> {
    let draw = |i: usize| (INSECTS[i % 2].picture(SEED, split, (i / 2) as u64), i % 2);
    (0..2 * COUNTS.of(split))
        .into_par_iter()
        .map(draw)
        .collect()
}

/// 64-bit FNV-1a over widths and pixels.
fn sum(pictures: &[RgbImage]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for picture in pictures {
        picture.width().to_le_bytes().into_iter().for_each(&mut add);
        picture.as_raw().iter().copied().for_each(&mut add);
    }
    hash
}

/// These sums were taken once, on x86-64. Another value on another machine or after a change means that people
/// no longer train on the same pictures: raise the version in `folder.rs`, train the backbone anew, measure again.
#[test]
fn the_same_pixels_on_every_machine() {
    let some = |classes: &[Class], count: u64| -> Vec<RgbImage> {
        let draw = |class: &Class| {
            (0..count)
                .map(|i| class.picture(SEED, Split::Train, i))
                .collect::<Vec<_>>()
        };
        classes.iter().flat_map(draw).collect()
    };
    let (insects, others) = (sum(&some(&INSECTS, 60)), sum(&some(&PRETRAINING, 12)));
    let expected = (0x9f72_9885_073a_20c3, 0x1172_98e7_b8de_df1c);
    assert_eq!((insects, others), expected, "{insects:#x} {others:#x}");
}

#[test]
fn a_picture_depends_on_seed_split_class_and_index() {
    let ants = &INSECTS[0];
    let first = ants.picture(1, Split::Train, 0);
    assert_eq!(first, ants.picture(1, Split::Train, 0));
    for other in [
        ants.picture(2, Split::Train, 0),
        ants.picture(1, Split::Val, 0),
        ants.picture(1, Split::Train, 1),
        INSECTS[1].picture(1, Split::Train, 0),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn the_folder_is_complete_and_what_was_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/sample");
    assert_eq!(sample::write(&root).unwrap(), Written::Drawn);
    assert_eq!(names(&root), [".drawn", "train", "val"]);
    assert_eq!(
        names(root.parent().unwrap()),
        ["sample"],
        "nothing is left beside it"
    );

    let mut sizes = BTreeSet::new();
    for split in Split::ALL {
        assert_eq!(names(&root.join(split.name())), ["ants", "bees"]);
        for class in &INSECTS {
            let folder = root.join(split.name()).join(class.name());
            let files = names(&folder);
            assert_eq!(files.len(), COUNTS.of(split), "the classes are balanced");
            for (index, file) in files.iter().enumerate() {
                assert_eq!(*file, format!("{index:03}.png"));
                let picture = image::open(folder.join(file)).unwrap();
                let image::DynamicImage::ImageRgb8(picture) = picture else {
                    panic!("{file} is not RGB8");
                };
                let (width, height) = picture.dimensions();
                assert!((72..=140).contains(&width) && (72..=140).contains(&height));
                sizes.insert((width, height));
                if index % 25 == 0 {
                    assert_eq!(picture, class.picture(SEED, split, index as u64));
                }
            }
        }
    }
    assert!(sizes.len() > 300, "sizes vary");
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
fn a_folder_that_is_intact_is_kept_and_any_other_of_ours_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("sample");
    let write = |seed| {
        let counts = Counts { train: 2, val: 1 };
        sample::write_classes(&root, &INSECTS, seed, counts).unwrap()
    };
    let picture = root.join("train/bees/001.png");
    assert_eq!(write(1), Written::Drawn);
    let bytes = fs::read(&picture).unwrap();
    assert_eq!(write(1), Written::Found);

    fs::remove_file(&picture).unwrap();
    assert_eq!(write(1), Written::Drawn, "a picture is missing");
    assert_eq!(fs::read(&picture).unwrap(), bytes);

    fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(write(1), Written::Drawn, "a picture is cut off");
    assert_eq!(fs::read(&picture).unwrap(), bytes);

    fs::write(root.join("train/bees/mine.png"), &bytes).unwrap();
    assert_eq!(write(1), Written::Drawn, "a picture was added");
    assert_eq!(names(&root.join("train/bees")), ["000.png", "001.png"]);

    assert_eq!(write(2), Written::Drawn, "another seed was asked for");
    assert_ne!(fs::read(&picture).unwrap(), bytes);
    assert_eq!(
        names(folder.path()),
        ["sample"],
        "nothing is left beside it"
    );
}

#[test]
fn a_folder_of_others_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("sample");
    fs::create_dir_all(root.join("train/ants")).unwrap();
    fs::write(root.join("train/ants/holiday.png"), b"mine").unwrap();
    let error = sample::write(&root).unwrap_err();
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    assert_eq!(names(&root.join("train/ants")), ["holiday.png"]);
    assert_eq!(names(folder.path()), ["sample"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = sample::write(&file.join("sample")).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn the_pretraining_task_has_many_classes_and_neither_insect() {
    let names: Vec<_> = PRETRAINING.iter().map(Class::name).collect();
    assert!(names.len() >= 20);
    assert!(
        names.is_sorted_by(|a, b| a < b),
        "labels are the order of the folders"
    );
    assert!(INSECTS.iter().all(|insect| !names.contains(&insect.name())));
    let firsts: BTreeSet<_> = PRETRAINING
        .iter()
        .map(|class| class.picture(SEED, Split::Train, 0).into_raw())
        .collect();
    assert_eq!(firsts.len(), names.len());
}

/// Mean and standard deviation of each channel.
fn colours(picture: &RgbImage) -> [f64; 6] {
    let count = f64::from(picture.width() * picture.height());
    let (mut sums, mut squares) = ([0.0; 3], [0.0; 3]);
    for pixel in picture.pixels() {
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

/// Logistic regression on `features` by gradient descent until it no longer moves: weights, the last is the bias.
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
fn colours_alone_tell_little() {
    let (train, val) = (pictures(Split::Train), pictures(Split::Val));
    for (used, features) in [("mean", 3), ("mean and deviation", 6)] {
        let rows = |set: &[(RgbImage, usize)]| -> Vec<Vec<f64>> {
            set.iter()
                .map(|(picture, _)| colours(picture)[..features].to_vec())
                .collect()
        };
        let (mut seen, mut unseen) = (rows(&train), rows(&val));
        for f in 0..features {
            let mean = seen.iter().map(|row| row[f]).sum::<f64>() / seen.len() as f64;
            let variance =
                seen.iter().map(|row| (row[f] - mean).powi(2)).sum::<f64>() / seen.len() as f64;
            for row in seen.iter_mut().chain(&mut unseen) {
                row[f] = (row[f] - mean) / variance.sqrt();
            }
        }
        let labels: Vec<_> = train.iter().map(|(_, label)| *label).collect();
        let weights = logistic_regression(&seen, &labels);
        let right = unseen
            .iter()
            .zip(&val)
            .filter(|(row, (_, label))| usize::from(logit(&weights, row) > 0.0) == *label)
            .count();
        let accuracy = right as f64 / val.len() as f64;
        println!("{used} of colour: {:.1} % of val", 100.0 * accuracy);
        assert!(accuracy < 0.65, "{used} of colour: {accuracy:.3}");
    }
}
