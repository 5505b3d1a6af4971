//! JPEGs of every kind, written by `jpeg_matrix/generate.py` with the pixels that Pillow decodes.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dataset::decode::decode_bytes;
use dataset::{DecodeOptions, Error};
use image::RgbImage;
use safetensors::SafeTensors;

/// A JPEG, and Pillow's pixels unless Pillow cannot open it.
struct Case {
    jpeg: Vec<u8>,
    pillow: Option<RgbImage>,
}

/// Returns the cases by their name, `GROUP/DESCRIPTION`.
fn cases() -> BTreeMap<String, Case> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/jpeg_matrix/matrix.safetensors"
    );
    let file = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let bytes = |name: String| Some(tensors.tensor(&name).ok()?.data());
    let names = tensors.names();
    let names = names.iter().filter_map(|name| name.strip_suffix(".jpg"));
    let case = |name: &str| {
        let pillow = bytes(format!("{name}.png"));
        Case {
            jpeg: bytes(format!("{name}.jpg")).unwrap().into(),
            pillow: pillow.map(|png| image::load_from_memory(png).unwrap().into_rgb8()),
        }
    };
    names.map(|name| (name.into(), case(name))).collect()
}

fn decode(jpeg: &[u8]) -> Result<RgbImage, Error> {
    // Pillow does not apply the orientation.
    let options = DecodeOptions::default()
        .max_pixels(1 << 16)
        .ignore_exif(true);
    decode_bytes(jpeg, Path::new("test.jpg"), &options, RgbImage::default())
}

#[test]
fn every_jpeg_has_the_pixels_of_pillow_or_is_refused() {
    let (mut right, mut wrong, mut refused) = (0, Vec::new(), BTreeMap::new());
    let cases = cases();
    for (name, case) in &cases {
        let mean = |decoded: RgbImage, pillow: &RgbImage| common::difference(&decoded, pillow).0;
        match (decode(&case.jpeg), &case.pillow) {
            (Ok(decoded), Some(pillow)) => match mean(decoded, pillow) {
                mean if mean <= 0.6 => right += 1,
                mean => wrong.push(format!("{name}: mean difference {mean}")),
            },
            (Ok(_), None) => wrong.push(format!("{name}: Pillow does not open it")),
            (Err(_), None) => {}
            (Err(error), Some(_)) => {
                let reason = match error {
                    Error::Unsupported { feature, .. } => feature,
                    error => error.reason(),
                };
                let names: &mut Vec<_> = refused.entry(reason).or_default();
                names.push(name.as_str());
            }
        }
    }
    let opened = cases.values().filter(|case| case.pillow.is_some()).count();
    println!(
        "{} files, of which Pillow opens {opened}; {right} right",
        cases.len()
    );
    println!("{} wrong: {wrong:#?}\nrefused: {refused:#?}", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} of {} files are wrong",
        wrong.len(),
        cases.len()
    );
    let refused: BTreeMap<&str, usize> = refused
        .iter()
        .map(|(reason, names)| (reason.as_str(), names.len()))
        .collect();
    let expected = [
        // The decoder is stricter than libjpeg about stray bytes between the scans.
        ("invalid JPEG data: Marker missing where expected", 1),
        ("a channel of the JPEG has no scan", 2),
        ("a channel of the JPEG has two scans", 2),
        ("the Adobe segment of the JPEG is invalid", 10),
        ("a JPEG image with arithmetic coding", 1),
        (
            "a JPEG image of at most 4 pixels in width with color at a lower resolution",
            3,
        ),
        ("a JPEG image with an unusual arrangement of scans", 10),
        ("a JPEG image with its height after a scan", 9),
        ("the frame header of the JPEG is invalid", 3),
        ("the progressive JPEG lacks scans", 5),
        ("the scans of the progressive JPEG are out of order", 2),
    ];
    assert_eq!(refused, BTreeMap::from(expected));
    assert_eq!((cases.len(), opened, right), (1137, 893, 845));
}

/// Replaces the size in the frame header.
fn resized(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = jpeg.to_vec();
    let frames = [[0xFF, 0xC0, 0], [0xFF, 0xC1, 0], [0xFF, 0xC2, 0]];
    let is_frame = |window: &[u8]| frames.iter().any(|frame| window == frame);
    let frame = jpeg.windows(3).position(is_frame).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

#[test]
fn memory_of_every_jpeg_is_checked_before_it_is_allocated() {
    let options = DecodeOptions::default().max_pixels(usize::MAX);
    let options = options.max_bytes(1 << 20);
    for (name, case) in cases() {
        // `resized` would change the thumbnail.
        if decode(&case.jpeg).is_err() || name.contains("thumbnail") {
            continue;
        }
        // Narrow images are padded to whole MCUs.
        for (width, height) in [(65_535, 65_535), (8, 60_000), (60_000, 8)] {
            let jpeg = resized(&case.jpeg, width, height);
            let path = Path::new("test.jpg");
            let decoded = decode_bytes(&jpeg, path, &options, RgbImage::default());
            let Err(error) = decoded else {
                panic!("{name}, {width} × {height}: decoded in 1 MiB");
            };
            assert!(
                matches!(
                    error,
                    Error::TooMuchMemory { .. } | Error::Unsupported { .. }
                ),
                "{name}, {width} × {height}: {error}"
            );
        }
    }
}

#[test]
fn jpegs_with_hundreds_of_scans_are_refused() {
    let cases = cases();
    let jpeg = &cases["common/420_progressive_spectral"].jpeg;
    let last = jpeg
        .windows(3)
        .rposition(|window| window == [0xFF, 0xDA, 0])
        .unwrap();
    let end = jpeg.len() - 2;
    let bomb = [&jpeg[..end], &jpeg[last..end].repeat(200), &jpeg[end..]].concat();
    let error = decode(&bomb).unwrap_err().to_string();
    assert!(error.contains("more than 100 scans"), "{error}");
}

#[test]
fn damaged_jpegs_of_every_kind_do_not_panic() {
    let mut state = 1u64;
    let mut random = |limit: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for Case { jpeg, .. } in cases().values() {
        for _ in 0..10 {
            let mut damaged = jpeg.clone();
            for _ in 0..1 + random(6) {
                let index = random(damaged.len());
                damaged[index] = random(256) as u8;
            }
            let _ = decode(&damaged);
            let _ = decode(&jpeg[..random(jpeg.len())]);
            // Keeps the end marker.
            let cut = random(jpeg.len() - 1);
            let _ = decode(
                &[
                    &jpeg[..cut],
                    &jpeg[cut + 1 + random(jpeg.len() - cut - 1)..],
                ]
                .concat(),
            );
        }
    }
}
