//! Decodes an image, with the limits that training uses.

use std::io::Cursor;
use std::path::Path;

use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::Target;

/// Decodes JPEG, PNG, WebP, TIFF, BMP and PNM. The seeds are images of several color types, and the
/// small golden files of `dataset`.
pub(super) struct Image;

/// Maximum size in bytes of a golden file that is used as a seed. Larger ones make executions slow.
const MAX_SEED_LEN: u64 = 16 << 10;

impl Target for Image {
    fn name(&self) -> &'static str {
        "image"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let small = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 90]));
        let small = DynamicImage::ImageRgb8(small);
        let mut seeds = Vec::new();
        for format in [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Tiff,
            ImageFormat::Bmp,
            ImageFormat::Pnm,
        ] {
            for image in [
                small.clone(),
                DynamicImage::ImageLuma8(small.to_luma8()),
                DynamicImage::ImageRgba8(small.to_rgba8()),
                DynamicImage::ImageLuma16(small.to_luma16()),
            ] {
                let mut bytes = Cursor::new(Vec::new());
                // Some formats do not support some color types.
                if image.write_to(&mut bytes, format).is_ok() {
                    seeds.push(bytes.into_inner());
                }
            }
        }
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 80)
            .encode_image(&small)
            .expect("a small image can be encoded");
        seeds.push(jpeg);
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../crates/dataset/tests/golden/decode"
        );
        let golden = dataset::image_folder::image_paths(golden).unwrap_or_default();
        for path in golden {
            let is_small = path
                .metadata()
                .is_ok_and(|metadata| metadata.len() <= MAX_SEED_LEN);
            seeds.extend(is_small.then(|| std::fs::read(&path)).and_then(Result::ok));
        }
        seeds
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"\xFF\xD8\xFF",
            b"\xFF\xC0",
            b"\xFF\xC2",
            b"\xFF\xC4",
            b"\xFF\xDA",
            b"\xFF\xD9",
            b"\xFF\xDD",
            b"\xFF\xEE\0\x0EAdobe",
            b"Exif\0\0II*\0",
            b"\x89PNG\r\n\x1a\n",
            b"IHDR",
            b"PLTE",
            b"tRNS",
            b"IDAT",
            b"IEND",
            b"RIFF",
            b"WEBPVP8 ",
            b"VP8L",
            b"VP8X",
            b"ALPH",
            b"ANIM",
            b"ANMF",
            b"II*\0",
            b"MM\0*",
            b"BM",
            b"P1\n",
            b"P2\n",
            b"P3\n",
            b"P4\n",
            b"P5\n",
            b"P6\n",
            b"P7\n",
            b"255\n",
            b"65535\n",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let options = DecodeOptions::default();
        decode_bytes(input, Path::new("fuzz"), &options, RgbImage::default()).is_ok()
    }
}
