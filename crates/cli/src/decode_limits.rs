//! The limits on images that `--max-pixels` sets.

use dataset::DecodeOptions;

/// The largest value of `--max-pixels`. JPEG has no larger images.
pub const MAX_PIXELS: usize = 65_535 * 65_535;

/// Bytes that decoding takes per pixel, except for a few TIFF images.
pub const BYTES_PER_PIXEL: u64 = 12;

/// The decoder settings for images of up to `max_pixels` pixels.
pub fn decode_options(ignore_exif: bool, max_pixels: usize) -> DecodeOptions {
    let options = DecodeOptions::default().ignore_exif(ignore_exif);
    // Up to the default number of pixels, the default limit on memory applies.
    if max_pixels <= options.max_pixels {
        return options.max_pixels(max_pixels);
    }
    let bytes = (max_pixels as u64).saturating_mul(BYTES_PER_PIXEL);
    options.max_pixels(max_pixels).max_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_memory_grows_with_that_on_pixels_and_saturates() {
        let default = DecodeOptions::default();
        let bytes = |pixels| decode_options(false, pixels).max_bytes;
        assert_eq!(bytes(1), default.max_bytes);
        assert_eq!(bytes(MAX_PIXELS), MAX_PIXELS as u64 * BYTES_PER_PIXEL);
        // A checkpoint may contain any number.
        assert_eq!(bytes(usize::MAX), u64::MAX);
    }
}
