//! The levels of BMP, PNM and CMYK images as Pillow computes them.
//!
//! `image` scales the samples of BMP and PNM to 8 or 16 bits with another rounding. Its levels
//! are distinct, so that they give the samples.

use image::codecs::pnm::PnmDecoder;
use image::{ImageFormat, RgbImage};

/// Corrects an 8-bit image, decoded from the file contents `bytes`.
pub(super) fn correct(image: &mut RgbImage, format: ImageFormat, bytes: &[u8]) {
    match format {
        ImageFormat::Bmp => {
            if let Some(maxima) = bmp_maxima(bytes) {
                // Pillow truncates.
                rescale(image, maxima, |sample, max| (sample * 255 / max) as u8);
            }
        }
        ImageFormat::Pnm => match pnm_maximum(bytes) {
            0 | 255.. => {}
            max => rescale(image, [max; 3], |sample, max| scale(sample, max, 255) as u8),
        },
        _ => {}
    }
}

/// Converts a color sample of a PNM image that `image` has scaled to 16 bits, by `max`, the maximum of the
/// image.
pub(super) fn pnm_color(value: u16, max: u32) -> u8 {
    scale(sample(u32::from(value), max, 65535), max, 255).min(255) as u8
}

/// Like [`pnm_color`], for gray, of which the high byte counts.
pub(super) fn pnm_gray(value: u16, max: u32) -> u8 {
    (scale(sample(u32::from(value), max, 65535), max, 65535) >> 8) as u8
}

/// Converts CMYK to RGB: `(255 − ink)·(255 − k) / 255`, rounded as in Pillow.
pub(super) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = u32::from(255 - k);
    [c, m, y].map(|ink| ((u32::from(255 - ink) * white + 127) / 255) as u8)
}

/// The maximum in the header of a PNM image, or 0 if the header is damaged.
pub(super) fn pnm_maximum(bytes: &[u8]) -> u32 {
    PnmDecoder::new(bytes).map_or(0, |decoder| decoder.header().maximal_sample())
}

/// The largest sample of each channel of a BMP of 16 bits, with masks of 5 or 6 bits.
fn bmp_maxima(bytes: &[u8]) -> Option<[u32; 3]> {
    let integer = |position: usize| {
        let bytes = bytes.get(position..position + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let header_length = integer(14)?;
    if header_length < 40 || integer(28)? & 0xFFFF != 16 {
        return None;
    }
    match integer(30)? {
        0 => Some([31; 3]),
        // Bit fields.
        3 => {
            let masks = [integer(54)?, integer(58)?, integer(62)?];
            let maxima = masks.map(|mask| (1u32 << mask.count_ones().min(16)) - 1);
            maxima
                .iter()
                .all(|max| [31, 63].contains(max))
                .then_some(maxima)
        }
        _ => None,
    }
}

/// Replaces every level by `to_level` of its sample and the maximum of its channel.
fn rescale(image: &mut RgbImage, maxima: [u32; 3], to_level: impl Fn(u32, u32) -> u8) {
    let tables: [[u8; 256]; 3] = maxima
        .map(|max| std::array::from_fn(|value| to_level(sample(value as u32, max, 255), max)));
    for pixel in image.pixels_mut() {
        for (value, table) in pixel.0.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
}

/// The sample of at most `max` that is scaled to `value` of at most `to`.
fn sample(value: u32, max: u32, to: u32) -> u32 {
    // At most 65535², with the rounding.
    ((u64::from(value) * u64::from(max) + u64::from(to / 2)) / u64::from(to)) as u32
}

/// Scales a sample of at most `max` to at most `to`, with Python's rounding.
fn scale(sample: u32, max: u32, to: u32) -> u32 {
    (f64::from(sample) / f64::from(max) * f64::from(to)).round_ties_even() as u32
}
