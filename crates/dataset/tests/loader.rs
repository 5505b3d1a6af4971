//! Tests of the loader: determinism, order, completeness and errors.

mod common;

use std::fs;
use std::path::PathBuf;

use common::mixed_folder;
use dataset::{Batch, DecodeOptions, Error, Loader, LoaderConfig, Normalize, Sample, Transform};

fn small(workers: usize) -> LoaderConfig {
    LoaderConfig {
        batch_size: 4,
        workers,
        ..LoaderConfig::train(24)
    }
}

fn loader(samples: &[Sample], config: LoaderConfig) -> Loader {
    Loader::new(samples, config).unwrap()
}

/// Images, labels and indices of a batch.
type Values = (Vec<f32>, Vec<u32>, Vec<usize>);

fn values(batch: Batch) -> Values {
    let images = batch.images.flatten_all().unwrap().to_vec1().unwrap();
    (images, batch.labels.to_vec1().unwrap(), batch.indices)
}

fn epoch(loader: &Loader, epoch: u64) -> Vec<Values> {
    loader
        .epoch(epoch)
        .map(|batch| values(batch.unwrap()))
        .collect()
}

#[test]
fn batches_do_not_depend_on_workers_or_cache() {
    let (_folder, samples) = mixed_folder(26);
    let expected: Vec<_> = {
        let sequential = loader(
            &samples,
            LoaderConfig {
                cache_bytes: 0,
                ..small(0)
            },
        );
        (0..3).map(|e| epoch(&sequential, e)).collect()
    };
    for workers in [0, 1, 4] {
        // No cache, a cache for some of the images, and a cache for all.
        for cache_bytes in [0, 40_000, 1 << 30] {
            let other = loader(
                &samples,
                LoaderConfig {
                    cache_bytes,
                    ..small(workers)
                },
            );
            for (e, expected) in (0..).zip(&expected) {
                assert!(
                    &epoch(&other, e) == expected,
                    "{workers} workers, {cache_bytes} bytes, epoch {e}"
                );
            }
        }
    }
}

#[test]
fn an_epoch_visits_every_sample_once_in_order() {
    let (_folder, samples) = mixed_folder(26);
    let train = loader(&samples, small(3));
    assert_eq!(train.batches(), 7);
    let batches = epoch(&train, 5);
    assert_eq!(
        batches.iter().map(|b| b.2.len()).collect::<Vec<_>>(),
        [4, 4, 4, 4, 4, 4, 2]
    );
    let visited: Vec<usize> = batches.iter().flat_map(|b| b.2.clone()).collect();
    assert_eq!(visited, train.order(5));
    let mut sorted = visited;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..26).collect::<Vec<_>>());
    for (images, labels, indices) in batches {
        assert_eq!(images.len(), indices.len() * 3 * 24 * 24);
        let expected: Vec<u32> = indices.iter().map(|&i| samples[i].label).collect();
        assert_eq!(labels, expected);
    }
}

#[test]
fn batch_tensors_have_the_documented_shapes_and_dtypes() {
    let (_folder, samples) = mixed_folder(3);
    let batch = loader(&samples, small(1)).epoch(0).next().unwrap().unwrap();
    assert_eq!(batch.images.dims(), [3, 3, 24, 24]);
    assert_eq!(batch.images.dtype(), candle_core::DType::F32);
    assert_eq!(
        (batch.labels.dims(), batch.labels.dtype()),
        (&[3][..], candle_core::DType::U32)
    );
}

#[test]
fn order_and_augmentation_depend_on_seed_and_epoch() {
    let (_folder, samples) = mixed_folder(20);
    let first = loader(&samples, small(2));
    let again = loader(&samples, small(2));
    let other = loader(
        &samples,
        LoaderConfig {
            seed: 77,
            ..small(2)
        },
    );
    assert_eq!(first.order(0), again.order(0));
    assert_ne!(first.order(0), first.order(1));
    assert_ne!(first.order(0), other.order(0));
    // A sample differs between epochs but does not depend on its position in an epoch.
    let image = |loader: &Loader, e: u64, sample: usize| {
        let batches = epoch(loader, e);
        let (images, _, indices) = batches.into_iter().find(|b| b.2.contains(&sample)).unwrap();
        let index = indices.iter().position(|&i| i == sample).unwrap();
        images.chunks(3 * 24 * 24).nth(index).unwrap().to_vec()
    };
    assert_ne!(image(&first, 0, 7), image(&first, 1, 7));
    let one_by_one = loader(
        &samples,
        LoaderConfig {
            batch_size: 1,
            shuffle: false,
            ..small(0)
        },
    );
    assert_eq!(image(&first, 4, 7), image(&one_by_one, 4, 7));
}

#[test]
fn an_epoch_can_start_at_any_batch() {
    let (_folder, samples) = mixed_folder(18);
    for workers in [0, 2] {
        let train = loader(&samples, small(workers));
        let all = epoch(&train, 2);
        for first in 0..=all.len() + 1 {
            let rest: Vec<_> = train
                .epoch_from(2, first)
                .map(|batch| values(batch.unwrap()))
                .collect();
            assert!(
                rest == all[first.min(all.len())..],
                "from batch {first} with {workers} workers"
            );
        }
    }
}

#[test]
fn validation_epochs_are_equal_and_in_order() {
    let (_folder, samples) = mixed_folder(10);
    let config = LoaderConfig {
        batch_size: 4,
        workers: 2,
        ..LoaderConfig::eval(24)
    };
    assert_eq!(
        config.transform,
        Transform::Eval {
            resize: 27,
            size: 24
        }
    );
    let val = loader(&samples, config);
    let batches = epoch(&val, 0);
    assert_eq!(
        batches.iter().flat_map(|b| b.2.clone()).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert!(batches == epoch(&val, 9));
}

#[test]
fn epochs_can_overlap_and_be_dropped_early() {
    let (_folder, samples) = mixed_folder(24);
    let train = loader(&samples, small(3));
    let expected = (epoch(&train, 0), epoch(&train, 1));
    let (mut zero, mut one) = (train.epoch(0), train.epoch(1));
    for b in 0..4 {
        assert!(values(zero.next().unwrap().unwrap()) == expected.0[b]);
        assert!(values(one.next().unwrap().unwrap()) == expected.1[b]);
    }
    drop(zero);
    drop(train);
    assert!(values(one.next().unwrap().unwrap()) == expected.1[4]);
}

#[test]
fn a_bad_image_ends_the_epoch_with_its_path() {
    let (folder, mut samples) = mixed_folder(12);
    let bad = folder.path().join("bad.png");
    fs::write(&bad, b"not an image").unwrap();
    samples[6].path = bad.clone();
    for workers in [0, 1, 3] {
        let config = LoaderConfig {
            shuffle: false,
            ..small(workers)
        };
        let mut batches = loader(&samples, config).epoch(0);
        assert!(batches.next().unwrap().is_ok());
        match batches.next().unwrap() {
            Err(Error::Decode { path, .. }) => assert_eq!(path, bad),
            other => panic!("{other:?}"),
        }
        assert!(batches.next().is_none(), "a batch follows an error");
    }
}

#[test]
fn preload_fills_the_cache_and_lists_all_bad_images() {
    let (folder, mut samples) = mixed_folder(9);
    let good = loader(&samples, small(2));
    let expected = epoch(&good, 0);
    good.preload().unwrap();
    let cached = loader(&samples, small(2));
    cached.preload().unwrap();
    let names: Vec<PathBuf> = samples.iter().map(|sample| sample.path.clone()).collect();
    names.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert!(epoch(&cached, 0) == expected, "cached images differ");

    samples[1].path = folder.path().join("gone.jpg");
    match loader(&samples, small(2)).preload().unwrap_err() {
        Error::BadImages { errors, checked: 9 } => assert_eq!(errors.len(), 9),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_out_of_range_are_errors() {
    let (_folder, samples) = mixed_folder(3);
    let message = |config: LoaderConfig| Loader::new(&samples, config).unwrap_err().to_string();
    assert!(
        message(LoaderConfig {
            batch_size: 0,
            ..small(1)
        })
        .contains("batch size is 0, expected at least 1")
    );
    assert!(message(LoaderConfig::train(0)).contains("input size is 0"));
    let no_resize = Transform::Eval { resize: 0, size: 8 };
    assert!(
        message(LoaderConfig {
            transform: no_resize,
            ..small(1)
        })
        .contains("resize size is 0")
    );
    let flat = Normalize {
        std: [0.2, 0.0, 0.2],
        ..Normalize::IMAGENET
    };
    assert!(
        message(LoaderConfig {
            normalize: flat,
            ..small(1)
        })
        .contains("positive std")
    );
    let huge = LoaderConfig {
        batch_size: usize::MAX,
        ..small(1)
    };
    assert!(message(huge).contains("batch is"));
}

#[test]
fn surplus_workers_and_empty_splits_are_allowed() {
    let (_folder, samples) = mixed_folder(3);
    assert_eq!(epoch(&loader(&samples, small(16)), 0).len(), 1);
    for workers in [0, 2] {
        let none = loader(&[], small(workers));
        assert_eq!((none.batches(), epoch(&none, 0).len()), (0, 0));
        none.preload().unwrap();
    }
}

#[test]
fn the_loader_applies_decoding_limits() {
    let (_folder, samples) = mixed_folder(4);
    let decode = DecodeOptions {
        max_pixels: 100,
        ..DecodeOptions::default()
    };
    let first = loader(&samples, LoaderConfig { decode, ..small(1) })
        .epoch(0)
        .next();
    assert!(matches!(
        first,
        Some(Err(Error::TooManyPixels { limit: 100, .. }))
    ));
}
