//! Compares decoding, transforms and the image grid with outputs of Pillow and torchvision.
//!
//! The files are in `tests/golden`. The environment variable `WAGGLE_GOLDEN` selects another
//! folder.

mod common;

use common::{difference, golden, image, json, tensors};
use dataset::contact_sheet::{Grid, make_grid};
use dataset::transform::{Plan, Region, apply, random_resized_crop, resized_size};
use dataset::{DecodeOptions, Normalize, Stream, Transform, decode};
use image::{DynamicImage, RgbImage};
use serde_json::Value;

/// Returns true for JPEG and lossy WebP. Decoders of these formats may round differently.
fn is_lossy(bytes: &[u8]) -> bool {
    let jpeg = bytes.starts_with(&[0xFF, 0xD8]);
    jpeg || bytes.starts_with(b"RIFF") && bytes.windows(4).any(|chunk| chunk == b"VP8 ")
}

#[test]
fn golden_decode() {
    let expected = tensors(&golden("decode/expected.safetensors"));
    assert!(!expected.is_empty());
    let without_exif = DecodeOptions::default().ignore_exif(true);
    for (name, expected) in expected {
        let path = golden("decode").join(&name);
        let expected = image(&expected);
        let actual = decode(&path, &without_exif).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(DynamicImage::ImageLuma16(raw)) = image::load_from_memory(&bytes) {
            // A deliberate difference: Pillow saturates 16-bit gray, and this crate keeps the high
            // byte.
            for ((raw, pillow), actual) in raw.pixels().zip(expected.pixels()).zip(actual.pixels())
            {
                assert_eq!(pillow.0, [raw.0[0].min(255) as u8; 3], "{name}");
                assert_eq!(actual.0, [(raw.0[0] / 256) as u8; 3], "{name}");
            }
            continue;
        }
        let (mean, largest) = difference(&actual, &expected);
        println!("{name}: mean {mean:.4}, largest {largest}");
        if is_lossy(&bytes) {
            assert!(mean <= 0.6, "{name}: mean {mean}");
        } else {
            assert_eq!(actual, expected, "{name}: mean {mean}, largest {largest}");
        }
    }
}

fn number(value: &Value) -> u32 {
    value
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or_else(|| panic!("`{value}` is not a size"))
}

/// Asserts that two images have the same bytes.
fn assert_same(actual: &RgbImage, expected: &RgbImage, name: &str) {
    let (mean, largest) = difference(actual, expected);
    assert_eq!(actual, expected, "{name}: mean {mean}, largest {largest}");
}

fn eval(source: &RgbImage, size: u32) -> RgbImage {
    let plan = Transform::eval(size).eval_plan(source.width(), source.height());
    apply(source, &plan).unwrap()
}

#[test]
fn golden_transforms() {
    let (values, metadata) = (
        tensors(&golden("transforms.safetensors")),
        json(&golden("transforms.json")),
    );
    let synthetic = decode(golden("synthetic.png"), &DecodeOptions::default()).unwrap();
    let (width, height) = synthetic.dimensions();
    assert_eq!(
        [width, height],
        [
            number(&metadata["size_wh"][0]),
            number(&metadata["size_wh"][1])
        ]
    );

    let expected = image(&values["eval"]);
    let size = expected.width();
    let Transform::Eval { resize, .. } = Transform::eval(size) else {
        unreachable!()
    };
    let resized = resized_size(width, height, resize);
    assert_eq!(
        [resized.0, resized.1],
        [
            number(&metadata["resized_wh"][0]),
            number(&metadata["resized_wh"][1])
        ]
    );
    assert_same(&eval(&synthetic, size), &expected, "eval");

    let crops = metadata["crops"].as_array().unwrap();
    assert!(!crops.is_empty());
    for (index, crop) in crops.iter().enumerate() {
        let expected = image(&values[&format!("crop{index}")]);
        let actual = apply(&synthetic, &plan_of(crop, expected.width())).unwrap();
        assert_same(&actual, &expected, &format!("crop{index}"));
    }

    let rgb = decode(golden("decode/rgb.png"), &DecodeOptions::default()).unwrap();
    let expected = image(&values["small_eval"]);
    assert_same(&eval(&rgb, expected.width()), &expected, "small_eval");

    let rows = &values["eval.normalized.first_rows"];
    let mut actual = Vec::new();
    Normalize::IMAGENET.append(&eval(&synthetic, size), &mut actual);
    let (_, _, width) = rows.dims3().unwrap();
    let actual: Vec<&[f32]> = actual.chunks_exact(size as usize).collect();
    for (c, plane) in rows.to_vec3::<f32>().unwrap().iter().enumerate() {
        for (y, expected) in plane.iter().enumerate() {
            assert_eq!(
                &actual[c * size as usize + y][..width],
                expected,
                "channel {c}, row {y}"
            );
        }
    }
}

fn plan_of(crop: &Value, size: u32) -> Plan {
    let side = |name: &str| number(&crop[name]);
    let region = Region {
        top: side("top"),
        left: side("left"),
        height: side("height"),
        width: side("width"),
    };
    Plan::resized_crop(region, size, crop["flip"].as_bool().unwrap())
}

#[test]
fn golden_grid() {
    let values = tensors(&golden("transforms.safetensors"));
    let crops = json(&golden("transforms.json"))["crops"]
        .as_array()
        .unwrap()
        .len();
    let names = (0..crops)
        .map(|index| format!("crop{index}"))
        .chain(["eval".to_owned()]);
    let images: Vec<RgbImage> = names.map(|name| image(&values[&name])).collect();
    let actual = make_grid(&images, &Grid::default().per_row(3)).unwrap();

    // The golden file has every second row and column, with shape (channel, row, column).
    let expected = values["grid"].to_vec3::<u8>().unwrap();
    let size = (expected[0][0].len(), expected[0].len());
    assert_eq!(
        size,
        (
            actual.width().div_ceil(2) as usize,
            actual.height().div_ceil(2) as usize
        )
    );
    for (channel, plane) in expected.iter().enumerate() {
        for (y, row) in plane.iter().enumerate() {
            for (x, &expected) in row.iter().enumerate() {
                let actual = actual.get_pixel(2 * x as u32, 2 * y as u32).0[channel];
                assert_eq!(actual, expected, "channel {channel} at {x}, {y}");
            }
        }
    }
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    // Linear interpolation, as in `torch.quantile`.
    let position = q * (sorted.len() - 1) as f64;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * fraction
}

/// Computes a property of a box, such as its area.
type Measure = fn(&Region) -> f64;

#[test]
fn golden_random_resized_crop_quantiles() {
    let metadata = json(&golden("transforms.json"));
    let images = metadata["random_resized_crop"].as_array().unwrap();
    assert!(!images.is_empty());
    for expected in images {
        let (w, h) = (
            number(&expected["boxes_on_wh"][0]),
            number(&expected["boxes_on_wh"][1]),
        );
        let mut stream = Stream::new(u64::from(w), 0, 0);
        let boxes: Vec<Region> = (0..200_000)
            .map(|_| random_resized_crop(w, h, &mut stream))
            .collect();
        let (w, h) = (f64::from(w), f64::from(h));
        // The tolerance is 2 % of the expected value. The expected values come from 20,000 draws,
        // which are too few for small areas and offsets. The tolerance of an area is therefore at
        // least 2 % of a fifth of the image area. The tolerance of an offset is at least 2 % of the
        // image's height (`top`) or width (`left`).
        let measures: [(&str, Measure, f64, f64); 4] = [
            (
                "area",
                |b| f64::from(b.width) * f64::from(b.height),
                w * h,
                0.2,
            ),
            (
                "ratio",
                |b| f64::from(b.width) / f64::from(b.height),
                1.0,
                0.0,
            ),
            ("top", |b| f64::from(b.top), 1.0, h),
            ("left", |b| f64::from(b.left), 1.0, w),
        ];
        for (name, measure, unit, minimum) in measures {
            let mut values: Vec<f64> = boxes.iter().map(|b| measure(b) / unit).collect();
            values.sort_by(f64::total_cmp);
            for q in [0.05, 0.25, 0.5, 0.75, 0.95] {
                let expected = expected[format!("{name}_{q}")].as_f64().unwrap();
                let actual = quantile(&values, q);
                let tolerance = 0.02 * expected.max(minimum);
                assert!(
                    (actual - expected).abs() <= tolerance,
                    "{w} × {h}: {name}_{q} is {actual}, expected {expected}"
                );
            }
        }
    }
}
