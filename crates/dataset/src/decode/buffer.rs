//! Buffers of files and pixels. Memory that the system refuses is an error.

use std::path::Path;

use image::RgbImage;

use crate::error::{Error, Result};

/// Creates an image of `width` × `height` in the buffer of `reuse`. `write` fills its pixels.
pub(super) fn fill(
    width: u32,
    height: u32,
    reuse: RgbImage,
    name: &Path,
    write: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<RgbImage> {
    let mut pixels = reuse.into_raw();
    // Decoders may skip damaged parts. Zeroing the buffer keeps the previous image out of them.
    pixels.clear();
    let length = width as usize * height as usize * 3;
    reserve(&mut pixels, length, name)?;
    pixels.resize(length, 0);
    write(&mut pixels)?;
    Ok(RgbImage::from_raw(width, height, pixels).expect("the buffer holds width × height pixels"))
}

/// Gives the empty `buffer` a capacity of `length` bytes for the file `name`.
pub(super) fn reserve(buffer: &mut Vec<u8>, length: usize, name: &Path) -> Result<()> {
    let reserved = buffer.try_reserve_exact(length);
    reserved.map_err(|error| Error::io(name)(error.into()))
}

/// A buffer of `length` zeros for the file `name`.
pub(super) fn zeros(length: usize, name: &Path) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    reserve(&mut buffer, length, name)?;
    buffer.resize(length, 0);
    Ok(buffer)
}
