//! Sequential JPEGs that zune-jpeg decodes to wrong pixels, decoded with jpeg-decoder.
//!
//! zune-jpeg 0.5.15 reports success for two kinds of sequential files but returns stripes, with a
//! mean error of up to 120 of 255 levels: files that store components in separate scans, and files
//! whose first component (luma) does not have the largest sampling factors. jpeg-decoder 0.3.2 is
//! within 0.33 levels of Pillow on both, except for one case, for which [`check`] returns an error.

use std::path::Path;

use image::RgbImage;
use jpeg_decoder::{ColorTransform, Decoder};
use zune_jpeg::zune_core::colorspace::ColorSpace;

use super::headers::{Frame, scan_components, scans};
use crate::decode::limits::check_memory;
use crate::decode::{DecodeOptions, undecodable};
use crate::error::Result;

/// Returns the frame header if zune-jpeg would decode the file to wrong pixels.
pub(super) fn find(bytes: &[u8]) -> Option<Frame> {
    let frame = Frame::read(bytes)?;
    if frame.progressive {
        return None;
    }
    let luma_is_subsampled = frame.components.first()?.sampling != frame.max_sampling();
    let separate = scans(bytes)
        .next()
        .is_some_and(|scan| scan_components(scan).count() < frame.components.len());
    (luma_is_subsampled || separate).then_some(frame)
}

/// Decodes to RGB. `colors` is the color space of the components.
///
/// # Errors
///
/// Returns an error if the file is damaged, exceeds the memory limit or does not have three or four
/// components, or if [`check`] rejects it.
pub(super) fn decode(
    bytes: &[u8],
    frame: &Frame,
    (width, height): (u32, u32),
    colors: Option<ColorSpace>,
    name: &Path,
    options: &DecodeOptions,
) -> Result<RgbImage> {
    check(bytes, frame).map_err(|reason| undecodable(name, reason))?;
    // Memory per pixel and component: a 16-bit coefficient, a decoded byte and an output byte. CMYK
    // is converted to RGB in a second buffer.
    let components = frame.components.len() as u64;
    let converted = if components == 4 { 3 } else { 0 };
    check_memory(width, height, 4 * components + converted, name, options)?;

    let mut decoder = Decoder::new(bytes);
    // Uses zune-jpeg's choice, so that both decoders interpret Adobe markers in the same way.
    decoder.set_color_transform(match colors {
        Some(ColorSpace::RGB) => ColorTransform::RGB,
        Some(ColorSpace::CMYK) => ColorTransform::CMYK,
        Some(ColorSpace::YCCK) => ColorTransform::YCCK,
        _ => ColorTransform::YCbCr,
    });
    let pixels = decoder.decode().map_err(|error| undecodable(name, error))?;
    let rgb = match components {
        3 => pixels,
        4 => cmyk_to_rgb(&pixels),
        count => {
            return Err(undecodable(
                name,
                format!("a JPEG with {count} components is not supported"),
            ));
        }
    };
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| undecodable(name, "the JPEG frame headers are inconsistent"))
}

/// Checks that jpeg-decoder decodes the scans correctly and in bounded time.
fn check(bytes: &[u8], frame: &Frame) -> std::result::Result<(), &'static str> {
    let mut missing = frame.components.clone();
    let max = frame.max_sampling();
    for header in scans(bytes) {
        let alone = scan_components(header).count() == 1;
        for id in scan_components(header) {
            // Decoding a scan takes time proportional to the image size, so repeated scans are
            // rejected.
            let Some(index) = missing.iter().position(|component| component.id == id) else {
                return Err("a JPEG scan has an unknown or repeated component");
            };
            let (h, v) = missing.swap_remove(index).sampling;
            // jpeg-decoder computes a wrong number of blocks for a single-component scan whose
            // sampling factor is neither 1 nor the maximum.
            let intermediate = (h != 1 && h != max.0) || (v != 1 && v != max.1);
            if alone && intermediate {
                return Err(
                    "a single-component scan with a sampling factor between 1 and the maximum is not supported",
                );
            }
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err("a JPEG component has no scan")
    }
}

/// Converts CMYK to RGB as Pillow does: `(255 - ink) * (255 - k) / 255`, rounded.
fn cmyk_to_rgb(pixels: &[u8]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<4>();
    let light = |ink: u8, k: u8| {
        let product = u32::from(255 - ink) * u32::from(255 - k);
        ((product + 127) / 255) as u8
    };
    pixels
        .iter()
        .flat_map(|&[c, m, y, k]| [light(c, k), light(m, k), light(y, k)])
        .collect()
}
