//! Compares the orientation that is applied with Pillow's `ImageOps.exif_transpose`, for the files
//! that `formats/orientation.py` writes.

mod common;

use std::path::Path;

use common::formats;
use dataset::decode::decode_bytes;
use dataset::{DecodeOptions, decode};
use image::RgbImage;

/// Decodes the files whose names begin with `prefix`, and compares them with Pillow's pixels.
fn check(prefix: &str) {
    let options = DecodeOptions::default();
    for (name, file, pillow) in formats::cases("orientation", prefix) {
        let decoded = decode_bytes(&file, &name, &options, RgbImage::default())
            .unwrap_or_else(|error| panic!("{error}"));
        let pillow = pillow.expect("every file is an image");
        assert_eq!(decoded.dimensions(), pillow.dimensions(), "{name}");
        let (mean, max) = common::difference(&decoded, &pillow);
        // JPEG is rounded differently. A wrong orientation gives a mean above 20.
        assert!(mean <= 0.6 && max <= 4, "{name}: mean {mean}, max {max}");
    }
}

#[test]
fn a_jpeg_is_turned_upright() {
    check("jpeg_");
}

#[test]
fn a_png_with_exif_before_the_pixels_is_turned_upright() {
    check("png_exif_before");
}

#[test]
fn a_png_with_exif_after_the_pixels_is_turned_upright() {
    check("png_exif_");
    let case = |name| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/cases");
        decode(folder.join(name), &DecodeOptions::default()).unwrap()
    };
    let upright = case("upright.png");
    assert_eq!(case("exif_after_idat.png"), upright);
    let (mean, _) = common::difference(&case("orientation_as_long.jpg"), &upright);
    assert!(mean < 6.0, "{mean}");
}

#[test]
fn a_png_with_exif_in_a_text_chunk_is_turned_upright() {
    check("png_profile_");
}

#[test]
fn a_webp_image_is_turned_upright_with_and_without_the_prefix_exif() {
    check("webp_");
}

#[test]
fn a_tiff_image_is_turned_upright() {
    check("tiff_");
}

#[test]
fn an_orientation_of_any_number_type_and_byte_order_is_applied() {
    check("type_");
}

#[test]
fn an_orientation_in_xmp_is_applied() {
    check("xmp_");
}

#[test]
fn an_orientation_in_several_segments_of_a_jpeg_is_applied() {
    check("segments_");
}

#[test]
fn orientations_outside_of_1_to_8_are_ignored() {
    check("invalid_");
}

#[test]
fn ignore_exif_keeps_the_stored_pixels_as_in_torchvision() {
    let ignored = DecodeOptions::default().ignore_exif(true);
    let plain = |name: &str| {
        let [(_, file, _)] = &formats::cases("orientation", name)[..] else {
            panic!("several cases begin with {name}")
        };
        decode_bytes(file, name, &ignored, RgbImage::default()).unwrap()
    };
    for (turned, upright) in [
        ("png_exif_after_6", "png_exif_after_1"),
        ("png_profile_zTXt_after", "png_exif_after_1"),
        ("webp_6", "webp_1"),
        ("xmp_webp_element", "webp_1"),
        ("jpeg_6", "jpeg_1"),
        ("xmp_jpeg_6", "jpeg_1"),
    ] {
        assert_eq!(plain(turned), plain(upright), "{turned}");
    }
    // Pillow turns TIFF images upright as it loads them, so torchvision does too.
    assert_eq!(plain("tiff_6").dimensions(), (12, 16));
}

#[test]
fn a_text_chunk_that_inflates_to_a_gigabyte_is_ignored() {
    use std::io::Write as _;
    let [(_, file, upright)] = &mut formats::cases("orientation", "png_exif_before_1")[..] else {
        panic!("several cases")
    };
    // 1 GiB of spaces, in hexadecimal the start of nothing.
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..1 << 10 {
        bomb.write_all(&spaces).unwrap();
    }
    let data = [
        b"zTXtRaw profile type exif\0\0",
        &bomb.finish().unwrap()[..],
    ]
    .concat();
    let mut chunk = (data.len() as u32 - 4).to_be_bytes().to_vec();
    chunk.extend_from_slice(&data);
    chunk.extend_from_slice(&common::crc32(&data).to_be_bytes());
    let end = file.len() - 12;
    file.splice(end..end, chunk);
    let started = std::time::Instant::now();
    let decoded = decode_bytes(
        file,
        "bomb.png",
        &DecodeOptions::default(),
        RgbImage::default(),
    );
    assert_eq!(&decoded.unwrap(), upright.as_ref().unwrap());
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
