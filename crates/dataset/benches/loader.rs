//! Benchmarks loading training batches on one thread, with and without the cache, and decoding and
//! transforming on their own.
//!
//! ```text
//! WAGGLE_IMAGES=DIR cargo bench -p dataset --bench loader
//! ```
//!
//! `DIR` contains the class folders, for example `data/hymenoptera_data/train`. Without
//! `WAGGLE_IMAGES`, the benchmark draws images of 500 × 375 pixels. It fails if the batches of a
//! cached loader or of a loader with two workers differ from those of an uncached one.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataset::transform::{Resampler, Transform};
use dataset::{DecodeOptions, Decoder, ImageFolder, Loader, LoaderConfig, Sample, Stream, decode};
use image::{Rgb, RgbImage};

/// Draws 32 JPEGs of smooth waves with grain, as a substitute for photographs.
fn draw(root: &Path) {
    std::fs::create_dir_all(root.join("drawn")).expect("the temporary folder can be written");
    for number in 0..32u32 {
        let image = RgbImage::from_fn(500, 375, |x, y| {
            let grain = (x.wrapping_mul(0x9E37_79B9) ^ y.wrapping_mul(0x85EB_CA6B) ^ number)
                .wrapping_mul(0xC2B2_AE35)
                >> 28;
            let wave = |scale: f32| {
                110.0 + 90.0 * ((x + 13 * number) as f32 / scale).sin() * (y as f32 / 31.0).cos()
            };
            Rgb([20.0, 33.0, 47.0].map(|scale| (wave(scale) + grain as f32) as u8))
        });
        image
            .save(root.join(format!("drawn/{number}.jpg")))
            .expect("the temporary folder can be written");
    }
}

/// Returns the number of images in an epoch and a hash of all their values.
fn digest(loader: &Loader, epoch: u64) -> (usize, u64) {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut images = 0;
    for batch in loader.epoch(epoch) {
        let batch = batch.expect("all images were verified");
        images += batch.indices.len();
        for value in batch
            .images
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("the tensor is on the CPU")
        {
            hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (images, hash)
}

fn load_epoch(loader: &Loader, epoch: u64, images: usize) {
    let mut count = 0;
    for batch in loader.epoch(epoch) {
        count += black_box(batch.expect("all images were verified"))
            .indices
            .len();
    }
    assert_eq!(count, images);
}

fn loaders(criterion: &mut Criterion) {
    let drawn = tempfile::tempdir().expect("the temporary folder can be created");
    let root = std::env::var_os("WAGGLE_IMAGES").map_or_else(
        || {
            draw(drawn.path());
            drawn.path().to_owned()
        },
        PathBuf::from,
    );
    let folder = ImageFolder::scan(root).expect("WAGGLE_IMAGES is a folder of class folders");
    let samples = folder.samples();
    dataset::verify(samples, &DecodeOptions::default(), 2).expect("all images can be decoded");

    let loader = |workers, cache_bytes| {
        let config = LoaderConfig::train(224)
            .workers(workers)
            .cache_bytes(cache_bytes);
        Loader::new(samples, config).expect("the settings are valid")
    };
    let (uncached, cached) = (loader(0, 0), loader(0, usize::MAX));
    cached.preload().expect("all images can be decoded");
    let expected = digest(&uncached, 0);
    assert_eq!(expected.0, samples.len());
    assert_eq!(digest(&cached, 0), expected, "cached batches differ");
    assert_eq!(
        digest(&loader(2, 0), 0),
        expected,
        "batches of two workers differ"
    );

    let mut group = criterion.benchmark_group("loader train");
    group
        .throughput(Throughput::Elements(samples.len() as u64))
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1));
    group.bench_function("uncached", |bencher| {
        bencher.iter(|| load_epoch(&uncached, 0, samples.len()))
    });
    group.bench_function("cached", |bencher| {
        bencher.iter(|| load_epoch(&cached, 0, samples.len()))
    });
    group.bench_function("decode", |bencher| bencher.iter(|| decode_all(samples)));
    group.bench_function("transform", |bencher| {
        let images: Vec<RgbImage> = samples
            .iter()
            .map(|s| decode(&s.path, &DecodeOptions::default()).expect("all images were verified"))
            .collect();
        bencher.iter(|| transform_all(&images));
    });
    group.finish();
    assert_eq!(
        digest(&cached, 0),
        expected,
        "batches differ after the benchmark"
    );
}

fn decode_all(samples: &[Sample]) {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut image = RgbImage::default();
    for sample in samples {
        image = decoder
            .decode(&sample.path, image)
            .expect("all images were verified");
    }
    black_box(image);
}

fn transform_all(images: &[RgbImage]) {
    let mut resampler = Resampler::default();
    let mut stream = Stream::new(0, 0, 0);
    for image in images {
        let plan = Transform::train(224).plan(image.width(), image.height(), &mut stream);
        black_box(
            resampler
                .apply(image, &plan)
                .expect("the plan fits the image"),
        );
    }
}

criterion_group!(benches, loaders);
criterion_main!(benches);
