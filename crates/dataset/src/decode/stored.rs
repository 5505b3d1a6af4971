//! What a picture was in its file, before it became 8-bit RGB.

use image::{ExtendedColorType, ImageFormat};
use serde::Serialize;

/// A picture as its file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
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
    Grey,
    /// Light and opacity.
    GreyAlpha,
    /// Red, green and blue, or what JPEG and WebP make of them.
    Rgb,
    /// Red, green, blue and opacity.
    RgbAlpha,
    /// The four inks of printing.
    Cmyk,
}

impl Stored {
    pub(super) fn new(
        format: ImageFormat,
        width: u32,
        height: u32,
        colour: ExtendedColorType,
    ) -> Self {
        let channels = match (colour, colour.channel_count()) {
            (ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16, _) => Channels::Cmyk,
            (_, 1) => Channels::Grey,
            (_, 2) => Channels::GreyAlpha,
            (_, 4) => Channels::RgbAlpha,
            _ => Channels::Rgb,
        };
        let bits = colour.bits_per_pixel() / u16::from(colour.channel_count().max(1));
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
