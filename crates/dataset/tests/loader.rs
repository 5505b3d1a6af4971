//! Tests of the loader: determinism, order, completeness, cache, augmentation, other sources and
//! errors.

mod common;

use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Device};

use common::mixed_folder;
use dataset::*;
use dataset::{candle_core, image};

fn small(workers: usize) -> LoaderConfig {
    LoaderConfig::train(24).batch_size(4).workers(workers)
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
        let sequential = loader(&samples, small(0).cache_bytes(0));
        (0..3).map(|e| epoch(&sequential, e)).collect()
    };
    for workers in [0, 1, 4] {
        // No cache, a cache for some of the images, and a cache for all.
        for cache_bytes in [0, 40_000, 1 << 30] {
            let other = loader(&samples, small(workers).cache_bytes(cache_bytes));
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
fn workers_that_share_memory_for_one_image_give_the_same_batches() {
    let (folder, mut samples) = mixed_folder(26);
    // Waits must not block the other workers after an error either.
    let bad = folder.path().join("bad.png");
    fs::write(&bad, [&b"\x89PNG\r\n\x1a\n"[..], &[7; 60_000]].concat()).unwrap();
    let expected = epoch(&loader(&samples, small(0).cache_bytes(0)), 1);
    for workers in [0, 1, 8] {
        // Each image fits, but no two large ones.
        let decode = DecodeOptions::default().max_bytes(90_000);
        let config = small(workers).cache_bytes(0).decode(decode.clone());
        assert!(
            epoch(&loader(&samples, config.clone()), 1) == expected,
            "{workers} workers"
        );
        assert!(
            find_bad_images(&samples, &decode, workers)
                .unwrap()
                .is_empty()
        );
        samples.push(Sample {
            path: bad.clone(),
            label: 0,
        });
        let with_bad = loader(&samples, config);
        assert!(with_bad.epoch(1).any(|batch| batch.is_err()));
        assert_eq!(
            find_bad_images(&samples, &decode, workers).unwrap().len(),
            1
        );
        samples.pop();
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
    assert_eq!(batch.images.dtype(), DType::F32);
    assert_eq!(
        (batch.labels.dims(), batch.labels.dtype()),
        (&[3][..], DType::U32)
    );
}

#[test]
fn order_and_augmentation_depend_on_seed_and_epoch() {
    let (_folder, samples) = mixed_folder(20);
    let first = loader(&samples, small(2));
    let again = loader(&samples, small(2));
    let other = loader(&samples, small(2).seed(77));
    assert_eq!(first.order(0), again.order(0));
    assert_ne!(first.order(0), first.order(1));
    assert_ne!(first.order(0), other.order(0));
    // The pixels of a sample differ between epochs, but do not depend on its position in an epoch.
    let image = |loader: &Loader, e: u64, sample: usize| {
        let batches = epoch(loader, e);
        let (images, _, indices) = batches.into_iter().find(|b| b.2.contains(&sample)).unwrap();
        let index = indices.iter().position(|&i| i == sample).unwrap();
        images.chunks(3 * 24 * 24).nth(index).unwrap().to_vec()
    };
    assert_ne!(image(&first, 0, 7), image(&first, 1, 7));
    let one_by_one = loader(&samples, small(0).batch_size(1).shuffle(false));
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
    let config = LoaderConfig::eval(24).batch_size(4).workers(2);
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
        let config = small(workers).shuffle(false);
        let mut batches = loader(&samples, config).epoch(0);
        assert!(batches.next().unwrap().is_ok());
        match batches.next().unwrap() {
            Err(Error::NotAnImage { path, .. }) => assert_eq!(path, bad),
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
    assert!(
        epoch(&cached, 0) == expected,
        "batches from cached images differ"
    );

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
    assert!(message(small(1).batch_size(0)).contains("batch size is 0, expected at least 1"));
    assert!(message(LoaderConfig::train(0)).contains("input size is 0"));
    let no_resize = Transform::Eval { resize: 0, size: 8 };
    assert!(message(small(1).transform(no_resize)).contains("resize size is 0"));
    let flat = Normalize {
        std: [0.2, 0.0, 0.2],
        ..Normalize::IMAGENET
    };
    assert!(message(small(1).normalize(flat)).contains("positive std"));
    let huge = small(1).batch_size(usize::MAX);
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
    let decode = DecodeOptions::default().max_pixels(100);
    let first = loader(&samples, small(1).decode(decode)).epoch(0).next();
    assert!(matches!(
        first,
        Some(Err(Error::TooManyPixels { limit: 100, .. }))
    ));
}

#[test]
fn a_glob_import_does_not_shadow_result() {
    fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
        text.parse()
    }
    assert_eq!(parse("7"), Ok(7));
}

#[test]
fn prepared_bytes_equal_an_evaluation_batch() {
    let (_folder, samples) = mixed_folder(6);
    let config = LoaderConfig::eval(24).batch_size(1).workers(0);
    let normalize = config.normalize;
    let batches = epoch(&loader(&samples, config), 0);
    let (options, cpu) = (DecodeOptions::default(), Device::Cpu);
    for (sample, (expected, ..)) in samples.iter().zip(batches) {
        let bytes = fs::read(&sample.path).unwrap();
        for transform in [Transform::eval(24), Transform::train(24)] {
            let input = transform.prepare(&bytes, &options, &normalize, &cpu);
            let input = input.unwrap();
            assert_eq!(
                (input.dims(), input.dtype()),
                (&[1, 3, 24, 24][..], DType::F32)
            );
            let values = input.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(
                values == expected,
                "{transform:?}, {}",
                sample.path.display()
            );
        }
    }
    let error = Transform::eval(24)
        .prepare(b"not an image", &options, &normalize, &cpu)
        .unwrap_err();
    assert!(
        error.to_string().starts_with("cannot decode image: "),
        "{error}"
    );
    let image = image::RgbImage::new(0, 5);
    let empty = Transform::eval(24).prepare_image(&image, &normalize, &cpu);
    assert!(matches!(empty, Err(Error::Plan { .. })));
}

#[test]
fn augmentation_gets_the_stream_of_seed_epoch_and_sample() {
    let (_folder, samples) = mixed_folder(5);
    let seed = 9;
    let run = |transform: Transform, workers| {
        let config = small(workers)
            .seed(seed)
            .transform(transform)
            .normalize(Normalize {
                mean: [0.0; 3],
                std: [1.0 / 255.0; 3],
            })
            .augment(|image, stream| {
                let level = stream.below(256) as u8;
                image.pixels_mut().for_each(|pixel| pixel.0 = [level; 3]);
            });
        epoch(&loader(&samples, config), 3)
    };
    let (train, eval) = (run(Transform::train(24), 0), run(Transform::eval(24), 0));
    assert!(run(Transform::train(24), 3) == train);
    for (draws, batches) in [(true, train), (false, eval)] {
        for (images, _, indices) in batches {
            for (values, index) in images.chunks(3 * 24 * 24).zip(indices) {
                let mut stream = Stream::new(seed, 3, index as u64);
                if draws {
                    let (w, h) = image::image_dimensions(&samples[index].path).unwrap();
                    Transform::train(24).plan(w, h, &mut stream);
                }
                let level = stream.below(256) as f32;
                assert!(
                    values.iter().all(|v| (v - level).abs() < 0.01),
                    "sample {index}"
                );
            }
        }
    }
}

#[test]
fn augmentation_must_keep_the_size() {
    let (_folder, samples) = mixed_folder(3);
    let config = small(0).augment(|image, _| *image = image::RgbImage::new(24, 23));
    let error = loader(&samples, config)
        .epoch(0)
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("from 24 × 24 to 24 × 23 pixels"),
        "{error}"
    );
}

#[test]
fn samples_can_be_decoded_from_other_sources() {
    let sources = [[10; 3], [200; 3]];
    let samples = ["a", "b", "c"].map(|name| Sample {
        path: name.into(),
        label: u32::from(name != "a"),
    });
    let config = LoaderConfig::eval(8)
        .workers(1)
        .decode_with(move |_, sample, _| {
            if sample.path.ends_with("c") {
                return Err(Error::Custom {
                    path: sample.path.clone(),
                    source: "no such row".into(),
                });
            }
            let color = image::Rgb(sources[sample.label as usize]);
            Ok(image::RgbImage::from_pixel(8, 8, color))
        });
    let batch = loader(&samples[..2], config.clone()).epoch(0).next();
    let (images, ..) = values(batch.unwrap().unwrap());
    let mut expected = Vec::new();
    for color in sources {
        let image = image::RgbImage::from_pixel(8, 8, image::Rgb(color));
        Normalize::IMAGENET.append(&image, &mut expected);
    }
    assert_eq!(images, expected);

    let all = loader(&samples, config);
    let error = all.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot load c");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no such row");
    let error = all.preload().unwrap_err().to_string();
    assert!(error.ends_with("c: no such row"), "{error}");
}

#[test]
fn a_file_that_changes_between_epochs_is_an_error_with_its_path() {
    for workers in [0, 2] {
        let (_folder, samples) = mixed_folder(6);
        let config = |cache: usize| {
            let config = LoaderConfig::train(32).batch_size(2).workers(workers);
            config.cache_bytes(cache).detect_changes(true)
        };
        let uncached = Loader::new(&samples, config(0)).unwrap();
        let cached = Loader::new(&samples, config(1 << 30)).unwrap();
        assert!(uncached.hashes().all(|hash| hash.is_none()));
        let batches =
            |loader: &Loader, epoch| -> Result<Vec<Batch>, Error> { loader.epoch(epoch).collect() };
        uncached.preload().unwrap();
        cached.preload().unwrap();
        assert!(uncached.hashes().all(|hash| hash.is_some()));
        assert!(uncached.hashes().eq(cached.hashes()));
        // A copy with the same contents is not a change.
        let path = &samples[3].path;
        let before = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &before).unwrap();
        batches(&uncached, 0).unwrap();
        // The same pixels in another file are one.
        let mut longer = before.clone();
        longer.push(0);
        for changed in [
            longer,
            pattern_png(),
            before[..before.len() / 2].to_vec(),
            Vec::new(),
        ] {
            fs::write(path, changed).unwrap();
            let error = batches(&uncached, 1).unwrap_err();
            assert!(
                matches!(&error, Error::Changed { path } if *path == samples[3].path),
                "{error}"
            );
            // The pixels in the cache are those of the first read.
            batches(&cached, 1).unwrap();
        }
        fs::remove_file(path).unwrap();
        let error = batches(&uncached, 1).unwrap_err();
        assert!(matches!(&error, Error::Io { .. }), "{error}");
        fs::write(path, &before).unwrap();
        batches(&uncached, 2).unwrap();
    }
}

fn pattern_png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = common::pattern(50, 40, 1);
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}
