//! Decodes with jpeg-decoder the JPEGs for which zune-jpeg gives wrong pixels.

use image::RgbImage;
use jpeg_decoder::{ColorTransform, Decoder, Error};

use super::colors::Colors;
use super::headers::{Frame, Headers};
use crate::decode::levels::cmyk_to_rgb;

/// Returns the memory in bytes that [`decode`] needs.
pub(super) fn memory(frame: &Frame) -> u64 {
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    // For each sample: a decoded byte, and a 16-bit coefficient that waits for the inverse transform.
    // Progressive files also keep all coefficients.
    let sample = if frame.progressive { 5 } else { 3 };
    let output = match frame.components.len() as u64 {
        3 => 3,
        // Converted in a second buffer.
        components => components + 3,
    };
    sample * frame.samples() + output * pixels
}

/// Decodes to RGB.
pub(super) fn decode(bytes: &[u8], headers: &Headers) -> Result<RgbImage, Error> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_color_transform(match headers.colors {
        Colors::Gray => ColorTransform::Grayscale,
        Colors::YCbCr => ColorTransform::YCbCr,
        Colors::Rgb => ColorTransform::RGB,
        Colors::Cmyk => ColorTransform::CMYK,
        Colors::Ycck => ColorTransform::YCCK,
    });
    let pixels = decoder.decode()?;
    let rgb = match headers.frame.components.len() {
        1 => pixels.iter().flat_map(|&gray| [gray; 3]).collect(),
        4 => {
            let (pixels, _) = pixels.as_chunks();
            pixels.iter().flat_map(|&cmyk| cmyk_to_rgb(cmyk)).collect()
        }
        _ => pixels,
    };
    let (width, height) = (headers.frame.width.into(), headers.frame.height.into());
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| Error::Format("wrong image size".into()))
}

/// The message of an error of jpeg-decoder, without its prefix.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Format(reason) => reason,
        error => error.to_string(),
    }
}
