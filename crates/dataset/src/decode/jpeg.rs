//! JPEG straight into RGB, with zune-jpeg: the decoder that `image` wraps, without the wrapper's copies.

use std::path::Path;

use image::metadata::Orientation;
use image::{ImageFormat, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::limits::{check_memory, check_pixels};
use super::{Channels, DecodeOptions, Decoded, Stored, fill, undecodable};
use crate::error::{Error, Result};

pub(super) fn decode(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    // The decoder paints what a truncated file lacks in grey and reports success; Pillow refuses such a file.
    if !has_end(bytes) {
        return Err(Error::Truncated { path: name.into() });
    }
    // Not strict: like libjpeg, it steps over stray bytes between segments. The pixel limit below replaces the
    // decoder's limits on width and height.
    let settings = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    let failed = |error: DecodeErrors| undecodable(name, format!("{error:?}"));
    decoder.decode_headers().map_err(failed)?;
    let (width, height) = decoder.dimensions().expect("the headers were decoded");
    check_pixels(width, height, name, options)?;
    // A JPEG's sides have sixteen bits.
    let (width, height) = (width as u32, height as u32);
    let info = decoder.info().expect("the headers were decoded");
    let coefficients = 2 * u64::from(info.components);
    check_memory(width, height, 3 + coefficients, name, options)?;
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => Channels::Grey,
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => Channels::Cmyk,
        _ => Channels::Rgb,
    };
    let stored = Stored {
        format: ImageFormat::Jpeg,
        width,
        height,
        channels,
        bits: 8,
    };
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif));
    let picture = fill(width, height, reuse, |pixels| {
        decoder.decode_into(pixels).map_err(failed)
    })?;
    Ok((
        picture,
        orientation.unwrap_or(Orientation::NoTransforms),
        stored,
    ))
}

/// Whether the picture's end marker is there.
///
/// A file may go on behind it, and thumbnails inside of segments have end markers of their own, so segments are
/// stepped over. Only a file that does not simply end with the marker is searched.
fn has_end(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    if bytes.ends_with(&[0xFF, END]) {
        return true;
    }
    let mut at = 0;
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|&byte| byte == 0xFF))
    {
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END) => return true,
            // A fill byte: the next 0xFF may begin the marker.
            Some(0xFF) => {}
            // A data byte 0xFF, or a marker without a segment.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(&[high, low]) => at += 1 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::has_end;

    #[test]
    fn the_end_marker_counts_only_outside_of_segments() {
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        let scan = [0xFF, 0xDA, 0, 3, 1, 0x12, 0xFF, 0x00, 0xFF, 0xD0, 0x34];
        let head = [&[0xFF, 0xD8][..], &thumbnail, &scan].concat();
        assert!(!has_end(&head), "the thumbnail's end is not the picture's");
        assert!(has_end(&[&head[..], &[0xFF, 0xD9]].concat()));
        assert!(
            has_end(&[&head[..], &[0xFF, 0xFF, 0xD9, 0, 0, 0]].concat()),
            "fill bytes and a tail"
        );
        for end in 0..head.len() {
            // Where the cut leaves the thumbnail's end marker last, decoding fails for lack of a scan.
            assert!(
                !has_end(&head[..end]) || head[..end].ends_with(&[0xFF, 0xD9]),
                "cut at {end}"
            );
        }
        assert!(
            !has_end(&[0xFF, 0xD8, 0xFF, 0xE1, 0xFF]),
            "a segment's length that is cut in two"
        );
    }
}
