//! Limits that are checked against an image header before memory for its pixels is allocated.
//!
//! A file of a few hundred bytes can declare a billion pixels (a decompression bomb). One limit
//! applies to the number of pixels, the other to the memory that the decoder needs for them.

use std::path::Path;

use super::DecodeOptions;
use super::budget::Purpose;
use crate::error::{Error, Result};

pub(super) const NO_PIXELS: &str = "the image has no pixels";

/// Returns an error if the image has no pixels or more than [`DecodeOptions::max_pixels`].
pub(super) fn check_pixels(
    width: usize,
    height: usize,
    name: &Path,
    options: &DecodeOptions,
) -> Result<()> {
    let limit = options.max_pixels;
    if width.saturating_mul(height) > limit {
        return Err(Error::TooManyPixels {
            path: name.into(),
            width,
            height,
            limit,
        });
    }
    if width == 0 || height == 0 {
        return Err(Error::Decode {
            path: name.into(),
            reason: NO_PIXELS.into(),
        });
    }
    Ok(())
}

/// Like [`check_bytes`], with `bytes` bytes per pixel.
pub(super) fn check_memory(
    width: u32,
    height: u32,
    bytes: u64,
    name: &Path,
    options: &DecodeOptions,
) -> Result<()> {
    let needed = (u64::from(width) * u64::from(height)).saturating_mul(bytes);
    check_bytes(width, height, needed, name, options)
}

/// Returns an error if decoding with `needed` bytes in all exceeds [`DecodeOptions::max_bytes`].
/// Otherwise waits until `options` can reserve them.
pub(super) fn check_bytes(
    width: u32,
    height: u32,
    needed: u64,
    name: &Path,
    options: &DecodeOptions,
) -> Result<()> {
    if needed > options.max_bytes {
        return Err(Error::TooMuchMemory {
            path: name.into(),
            width,
            height,
            needed,
            limit: options.max_bytes,
        });
    }
    options
        .budget
        .reserve(Purpose::Image, needed, options.max_bytes);
    Ok(())
}
