//! Properties of an image as stored in its file.

use image::{ExtendedColorType, ImageFormat};
use serde::Serialize;

/// Properties of an image before the conversion to upright 8-bit RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Format of the content, regardless of the extension.
    pub format: ImageFormat,
    /// Width in pixels before the EXIF orientation is applied.
    pub width: u32,
    /// Height in pixels before the EXIF orientation is applied.
    pub height: u32,
    /// Channels of a pixel. For a palette image, the channels of the palette entries.
    pub channels: Channels,
    /// Bits per channel. PNG channels with fewer than 8 bits count as 8.
    pub bits: u8,
}

/// The channels stored for each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Luminance.
    Gray,
    /// Luminance and alpha.
    GrayAlpha,
    /// Red, green and blue, or YCbCr.
    Rgb,
    /// Red, green, blue and alpha.
    RgbAlpha,
    /// Cyan, magenta, yellow and black, or YCCK.
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
            // No supported format has more than 64 bits per channel.
            bits: bits.min(64) as u8,
        }
    }
}
