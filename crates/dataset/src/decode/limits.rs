//! What a image may cost, decided from its header, before anything is allocated for its pixels.
//!
//! A few hundred bytes can claim a billion pixels, and a decoder that believes them takes the machine's memory: a
//! decompression bomb. Two limits, because two things matter: how many pixels there are, and how many bytes their
//! decoder needs for them.

use std::path::Path;

use super::DecodeOptions;
use crate::error::{Error, Result};

/// Refuses images without pixels and those with too many.
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
            reason: "it has no pixels".into(),
        });
    }
    Ok(())
}

/// Refuses images whose decoding takes too much memory, at `bytes` for each pixel.
pub(super) fn check_memory(
    width: u32,
    height: u32,
    bytes: u64,
    name: &Path,
    options: &DecodeOptions,
) -> Result<()> {
    let needed = (u64::from(width) * u64::from(height)).saturating_mul(bytes);
    if needed > options.max_bytes {
        return Err(Error::TooMuchMemory {
            path: name.into(),
            width,
            height,
            needed,
            limit: options.max_bytes,
        });
    }
    Ok(())
}
