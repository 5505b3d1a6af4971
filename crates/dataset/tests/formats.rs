//! Compares BMP, PNM, PNG and WebP images of many kinds with Pillow's pixels, for the files that
//! `formats/others.py` writes.

mod common;

use common::formats;
use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use image::RgbImage;

/// Decodes the files whose names begin with `prefix`, and compares them with Pillow's pixels.
fn check(prefix: &str, mean_limit: f64, max_limit: u8) {
    let mut wrong = Vec::new();
    for (name, file, pillow) in formats::cases("others", prefix) {
        let decoded = decode_bytes(&file, &name, &DecodeOptions::default(), RgbImage::default());
        match decoded {
            Ok(decoded) => {
                let pillow = pillow.expect("every file is an image");
                let (mean, max) = common::difference(&decoded, &pillow);
                if mean > mean_limit || max > max_limit {
                    wrong.push(format!("{name}: mean {mean}, max {max}"));
                }
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn bmp_images_of_16_bits_equal_pillow_to_the_level() {
    check("bmp_16", 0.0, 0);
}

#[test]
fn bmp_images_of_every_kind_equal_pillow() {
    check("bmp_", 0.0, 0);
}

#[test]
fn ppm_images_of_every_maximum_equal_pillow_to_the_level() {
    check("ppm_", 0.0, 0);
}

#[test]
fn pgm_and_pbm_images_of_every_maximum_equal_pillow_to_the_level() {
    check("pgm_", 0.0, 0);
    check("pbm_", 0.0, 0);
}

#[test]
fn png_images_of_every_kind_equal_pillow() {
    check("png_", 0.0, 0);
}

#[test]
fn webp_images_of_every_kind_equal_pillow() {
    check("webp_rgb_lossless", 0.0, 0);
    check("webp_rgba_lossless", 0.0, 0);
    // Lossy WebP is rounded differently.
    check("webp_", 0.6, 4);
}

#[test]
fn a_file_for_which_a_decoder_panics_is_an_error() {
    let file = include_bytes!("formats/cases/animation_frame_of_another_size.webp");
    let options = DecodeOptions::default();
    let error = decode_bytes(file, "x.webp", &options, RgbImage::default()).unwrap_err();
    assert_eq!(error.reason(), "a damaged WebP image");
}
