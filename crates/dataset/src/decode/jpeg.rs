//! Decodes JPEG to RGB with zune-jpeg, or with jpeg-decoder where zune-jpeg gives wrong pixels.
//!
//! The headers select the decoder. A file for which neither is known to give the pixels of libjpeg is
//! an error. zune-jpeg is called directly, because its wrapper in the `image` crate makes more
//! copies.

mod colors;
pub(super) mod headers;
mod support;
mod unusual;

use std::path::Path;

use image::{ImageFormat, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::buffer::fill;
use super::limits::{check_bytes, check_pixels};
use super::{DecodeOptions, Decoded, ImageInfo, undecodable, unsupported};
use crate::error::{Error, Result};
use headers::{Frame, Headers, Problem};

pub(super) fn decode(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    let to_error = |problem| match problem {
        Problem::Truncated => Error::Truncated { path: name.into() },
        Problem::Damaged(reason) => undecodable(name, reason),
        Problem::Unsupported(feature) => unsupported(name, feature.to_string()),
    };
    let headers = Headers::read(bytes).map_err(to_error)?;
    let frame = &headers.frame;
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    check_pixels(width as usize, height as usize, name, options)?;
    support::check(&headers).map_err(to_error)?;
    let check_memory = |needed| check_bytes(width, height, needed, name, options);
    let invalid = |reason: String| undecodable(name, format!("invalid JPEG data: {reason}"));
    let zune_error = |error| invalid(reason(error));
    let zune = support::is_for_zune(&headers).then(|| zune(bytes));
    let image = match zune.transpose().map_err(zune_error)? {
        Some(mut decoder) if decoder.input_colorspace() == Some(headers.colors.in_zune()) => {
            check_memory(zune_memory(frame))?;
            fill(width, height, reuse, name, |pixels| {
                decoder.decode_into(pixels).map_err(zune_error)
            })?
        }
        _ if support::is_for_jpeg_decoder(&headers) => {
            check_memory(unusual::memory(frame))?;
            unusual::decode(bytes, &headers).map_err(|error| invalid(unusual::reason(error)))?
        }
        _ => {
            return Err(to_error(Problem::Unsupported(
                "a JPEG image with an unusual arrangement of scans",
            )));
        }
    };
    let info = ImageInfo {
        format: ImageFormat::Jpeg,
        width,
        height,
        channels: headers.colors.channels(),
        bits: 8,
    };
    Ok((image, info))
}

/// Creates zune-jpeg's decoder of the file, which has read the headers.
fn zune(bytes: &[u8]) -> std::result::Result<JpegDecoder<ZCursor<&[u8]>>, DecodeErrors> {
    // Not strict: stray bytes between segments are skipped, as in libjpeg. `check_pixels` replaces
    // the decoder's limits on width and height.
    let settings = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    decoder.decode_headers()?;
    Ok(decoder)
}

/// Returns the memory in bytes that zune-jpeg needs.
fn zune_memory(frame: &Frame) -> u64 {
    // RGB, and a 16-bit coefficient per sample of progressive files.
    3 * u64::from(frame.width) * u64::from(frame.height) + 2 * frame.samples()
}

/// The message of an error of zune-jpeg, which quotes some messages.
fn reason(error: DecodeErrors) -> String {
    match error {
        DecodeErrors::Format(reason) => reason,
        DecodeErrors::FormatStatic(reason) => reason.into(),
        DecodeErrors::IoErrors(_) => "a segment is truncated".into(),
        error => error.to_string(),
    }
}
