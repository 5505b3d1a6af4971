//! Decodes JPEG to RGB with zune-jpeg, or with jpeg-decoder where zune-jpeg gives wrong pixels.
//!
//! zune-jpeg is called directly, because its wrapper in the `image` crate makes more copies.

pub(super) mod headers;
mod separate_scans;

use std::path::Path;

use image::{ImageFormat, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::limits::{check_memory, check_pixels};
use super::{Channels, DecodeOptions, Decoded, ImageInfo, fill, undecodable};
use crate::error::{Error, Result};

pub(super) fn decode(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    // zune-jpeg fills the missing part of a truncated file with gray and reports success. Pillow
    // reports an error.
    if !headers::has_end(bytes) {
        return Err(Error::Truncated { path: name.into() });
    }
    // Not strict: stray bytes between segments are skipped, as in libjpeg. `check_pixels` replaces
    // the decoder's limits on width and height.
    let settings = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    let decode_error = |error: DecodeErrors| undecodable(name, format!("{error:?}"));
    decoder.decode_headers().map_err(decode_error)?;
    let (width, height) = decoder.dimensions().expect("the headers were decoded");
    check_pixels(width, height, name, options)?;
    // The header stores width and height as 16-bit integers.
    let (width, height) = (width as u32, height as u32);
    let header = decoder.info().expect("the headers were decoded");
    let coefficients = 2 * u64::from(header.components);
    check_memory(width, height, 3 + coefficients, name, options)?;
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => Channels::Gray,
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => Channels::Cmyk,
        _ => Channels::Rgb,
    };
    let info = ImageInfo {
        format: ImageFormat::Jpeg,
        width,
        height,
        channels,
        bits: 8,
    };
    let image = if let Some(frame) = separate_scans::find(bytes) {
        let colors = decoder.input_colorspace();
        separate_scans::decode(bytes, &frame, (width, height), colors, name, options)?
    } else {
        fill(width, height, reuse, |pixels| {
            decoder.decode_into(pixels).map_err(decode_error)
        })?
    };
    Ok((image, info))
}
