//! What a image was in its file, before it became 8-bit RGB.

use image::{ExtendedColorType, ImageFormat};
use serde::Serialize;

/// A image as its file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The format of the content, whatever the file's name says.
    pub format: ImageFormat,
    /// Width in pixels, before the EXIF orientation turns it.
    pub width: u32,
    /// Height in pixels, before the EXIF orientation turns it.
    pub height: u32,
    /// What a pixel consists of. A palette counts as what its entries are.
    pub channels: Channels,
    /// Bits of a channel.
    pub bits: u8,
}

/// What a pixel consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Light alone.
    Gray,
    /// Light and opacity.
    GrayAlpha,
    /// Red, green and blue, or what JPEG and WebP make of them.
    Rgb,
    /// Red, green, blue and opacity.
    RgbAlpha,
    /// The four inks of printing.
    Cmyk,
}

impl ImageInfo {
    pub(super) fn new(
        format: ImageFormat,
        width: u32,
        height: u32,
        color: ExtendedColorType,
    ) -> Self {
        let channels = match (color, color.channel_count()) {
            (ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16, _) => Channels::Cmyk,
            (_, 1) => Channels::Gray,
            (_, 2) => Channels::GrayAlpha,
            (_, 4) => Channels::RgbAlpha,
            _ => Channels::Rgb,
        };
        let bits = color.bits_per_pixel() / u16::from(color.channel_count().max(1));
        Self {
            format,
            width,
            height,
            channels,
            // No format that is read has more than 64 bits a channel.
            bits: bits.min(64) as u8,
        }
    }
}
