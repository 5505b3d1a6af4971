//! Batches: the same whatever the workers and the cache, in order, complete, bounded, and errors instead of hangs.

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

/// A batch as values that can be compared.
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
fn workers_and_cache_change_nothing() {
    let (_folder, samples) = mixed_folder(26);
    let expected: Vec<_> = {
        let one = loader(
            &samples,
            LoaderConfig {
                cache_bytes: 0,
                ..small(0)
            },
        );
        (0..3).map(|e| epoch(&one, e)).collect()
    };
    for workers in [0, 1, 4] {
        // No cache, one with room for some of the images, one with room for all.
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
fn batches_are_complete_in_order_and_the_last_is_smaller() {
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
fn shapes_and_types_are_those_of_the_network() {
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
fn order_and_augmentation_follow_seed_and_epoch() {
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
    // The same sample looks different in another epoch, and does not depend on where in the epoch it comes.
    let image = |loader: &Loader, e: u64, sample: usize| {
        let batches = epoch(loader, e);
        let (images, _, indices) = batches.into_iter().find(|b| b.2.contains(&sample)).unwrap();
        let at = indices.iter().position(|&i| i == sample).unwrap();
        images.chunks(3 * 24 * 24).nth(at).unwrap().to_vec()
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
fn an_epoch_can_be_entered_at_any_batch() {
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
fn validation_is_in_order_and_the_same_in_every_epoch() {
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
fn several_epochs_may_be_open_and_dropped_early() {
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
fn a_bad_image_ends_the_epoch_with_an_error_that_names_it() {
    let (folder, mut samples) = mixed_folder(12);
    let bad = folder.path().join("bad.png");
    fs::write(&bad, b"not a image").unwrap();
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
        assert!(batches.next().is_none(), "nothing follows an error");
    }
}

#[test]
fn preloading_lists_every_bad_image_and_fills_the_cache() {
    let (folder, mut samples) = mixed_folder(9);
    let good = loader(&samples, small(2));
    let expected = epoch(&good, 0);
    good.preload().unwrap();
    let cached = loader(&samples, small(2));
    cached.preload().unwrap();
    let names: Vec<PathBuf> = samples.iter().map(|sample| sample.path.clone()).collect();
    names.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert!(epoch(&cached, 0) == expected, "no file was read again");

    samples[1].path = folder.path().join("gone.jpg");
    match loader(&samples, small(2)).preload().unwrap_err() {
        Error::BadImages { errors, checked: 9 } => assert_eq!(errors.len(), 9),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_outside_their_range_are_refused() {
    let (_folder, samples) = mixed_folder(3);
    let refused = |config: LoaderConfig| Loader::new(&samples, config).unwrap_err().to_string();
    assert!(
        refused(LoaderConfig {
            batch_size: 0,
            ..small(1)
        })
        .contains("the batch size is 0")
    );
    assert!(refused(LoaderConfig::train(0)).contains("input is 0"));
    let no_resize = Transform::Eval { resize: 0, size: 8 };
    assert!(
        refused(LoaderConfig {
            transform: no_resize,
            ..small(1)
        })
        .contains("resized to is 0")
    );
    let flat = Normalize {
        std: [0.2, 0.0, 0.2],
        ..Normalize::IMAGENET
    };
    assert!(
        refused(LoaderConfig {
            normalize: flat,
            ..small(1)
        })
        .contains("every std above 0")
    );
    let huge = LoaderConfig {
        batch_size: usize::MAX,
        ..small(1)
    };
    assert!(refused(huge).contains("the size of a batch"));
}

#[test]
fn more_workers_than_batches_and_no_samples_are_fine() {
    let (_folder, samples) = mixed_folder(3);
    assert_eq!(epoch(&loader(&samples, small(16)), 0).len(), 1);
    for workers in [0, 2] {
        let none = loader(&[], small(workers));
        assert_eq!((none.batches(), epoch(&none, 0).len()), (0, 0));
        none.preload().unwrap();
    }
}

#[test]
fn a_image_above_the_limit_is_refused_by_the_loader_too() {
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
