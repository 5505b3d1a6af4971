//! Compares TIFF images of many kinds with Pillow's pixels, for the files that `formats/tiff.py`
//! writes.

mod common;

use std::io::Cursor;
use std::path::Path;

use common::formats;
use dataset::decode::decode_bytes;
use dataset::{DecodeOptions, Error, decode};
use image::{GrayImage, ImageFormat, Luma, RgbImage};

fn from_bytes(file: &[u8], name: &str) -> Result<RgbImage, Error> {
    decode_bytes(file, name, &DecodeOptions::default(), RgbImage::default())
}

#[test]
fn tiff_images_of_every_kind_have_the_pixels_of_pillow() {
    let mut decoded_files = 0;
    let mut wrong = Vec::new();
    for (name, file, pillow) in formats::cases("tiff", "") {
        let Some(pillow) = pillow else { continue };
        decoded_files += 1;
        let decoded = match from_bytes(&file, &name) {
            Ok(decoded) => decoded,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        let (mean, max) = common::difference(&decoded, &pillow);
        // JPEG is rounded differently.
        let (mean_limit, max_limit) = match &name {
            name if name.starts_with("jpeg") => (0.6, 3),
            _ => (0.0, 0),
        };
        if mean > mean_limit || max > max_limit {
            wrong.push(format!("{name}: mean {mean}, max {max}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(decoded_files >= 100, "{decoded_files}");
}

#[test]
fn tiff_images_that_are_not_supported_are_named_with_what_to_do() {
    for (name, file, _) in formats::cases("tiff", "refused_") {
        match from_bytes(&file, &name).unwrap_err() {
            error @ Error::Unsupported { .. } => {
                let reason = error.reason();
                assert!(reason.starts_with("a TIFF image with "), "{name}: {reason}");
                assert!(reason.ends_with("; convert it to PNG"), "{name}: {reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_camera_raw_file_is_not_taken_for_its_thumbnail() {
    for (name, file, _) in formats::cases("tiff", "raw_") {
        let error = from_bytes(&file, &name).unwrap_err();
        let expected = "a camera raw image, which is not supported; convert it to JPEG";
        assert_eq!(error.reason(), expected, "{name}");
    }
}

#[test]
fn damaged_tiff_images_are_named_as_damaged() {
    for (name, file, _) in formats::cases("tiff", "damaged_") {
        let reason = from_bytes(&file, &name).unwrap_err().reason();
        assert!(
            reason.starts_with("a damaged TIFF image: "),
            "{name}: {reason}"
        );
    }
}

#[test]
fn truncated_and_changed_tiff_images_do_not_crash_or_take_memory() {
    let options = DecodeOptions::default()
        .max_pixels(1 << 20)
        .max_bytes(1 << 24);
    for (name, file, _) in formats::cases("tiff", "") {
        let mut changed = file.clone();
        for position in 0..file.len() {
            let decode = |bytes: &[u8]| {
                let _ = decode_bytes(bytes, &name, &options, RgbImage::default());
            };
            decode(&file[..position]);
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                changed[position] = value;
                decode(&changed);
            }
            changed[position] = file[position];
        }
    }
}

#[test]
fn the_tiff_cases_of_users_decode_as_in_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/cases");
    let case = |name| decode(folder.join(name), &DecodeOptions::default()).unwrap();
    let rgb = case("rgb.tif");
    assert_eq!(rgb.get_pixel(0, 0).0, [99, 226, 131]);
    assert_eq!(case("zstd.tif"), rgb);
    let gray = case("gray_alpha.tif");
    assert_eq!(gray.get_pixel(0, 0).0, [177; 3]);
    // The gray image holds the rounded values of the other.
    let (_, max) = common::difference(&case("float_gray.tif"), &gray);
    assert!(max <= 1, "{max}");
}

/// A gray image, 16 pixels wide, whose strips of `rows` rows share the same data.
fn strips(compression: u32, rows: u32, strips: u32, data: &[u8]) -> Vec<u8> {
    let count = strips as usize;
    let tags = [
        (256, vec![16]),
        (257, vec![rows * strips]),
        (258, vec![8]),
        (259, vec![compression]),
        (262, vec![1]),
        (273, vec![8; count]),
        (278, vec![rows]),
        (279, vec![data.len() as u32; count]),
    ];
    common::tiff(&tags, data)
}

#[test]
fn a_small_tiff_does_not_take_hours() {
    const PACK_BITS: u32 = 32773;
    // 16 times the level 9.
    let strip = [0xf1, 9];
    let image = from_bytes(&strips(PACK_BITS, 1, 5000, &strip), "shared").unwrap();
    assert!(image.as_raw().iter().all(|&level| level == 9));
    // A million bytes without pixels come before it.
    let slow = [vec![0x80; 1_000_000], strip.to_vec()].concat();
    let error = from_bytes(&strips(PACK_BITS, 1, 5000, &slow), "slow").unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn a_jpeg_larger_than_its_tiff_strip_is_damaged() {
    const JPEG: u32 = 7;
    let strip = |width, height| {
        let mut jpeg = Cursor::new(Vec::new());
        let image = GrayImage::from_pixel(width, height, Luma([100]));
        image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        strips(JPEG, 16, 1, &jpeg.into_inner())
    };
    for (width, height) in [(16, 16), (16, 32)] {
        let image = from_bytes(&strip(width, height), "fits").unwrap();
        assert_eq!(image.dimensions(), (16, 16));
    }
    for (width, height) in [(16, 8), (8, 16), (17, 16), (16, 64)] {
        let error = from_bytes(&strip(width, height), "wrong size").unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error}");
    }
}
