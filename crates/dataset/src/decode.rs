//! A image file of any supported format as 8-bit RGB: what Pillow's `Image.open(path).convert("RGB")` gives.
//!
//! The content decides the format, whatever the extension says. Gray is repeated to three channels, alpha is dropped
//! (not composited), palettes are expanded, CMYK is converted. Lossless formats agree with Pillow to the bit; JPEG
//! and lossy WebP differ by rounding in the inverse transform and the chroma upsampling, by less than 0.6 level on
//! average.
//!
//! Two differences, on purpose. The EXIF orientation is applied, where torchvision ignores it
//! ([`DecodeOptions::ignore_exif`] turns that off). Sixteen-bit gray keeps its high byte, as sixteen-bit color does
//! in Pillow too, where Pillow saturates gray at 255.

mod info;
mod jpeg;
mod limits;

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::{Error, Result};
pub use info::{Channels, ImageInfo};
use limits::{check_memory, check_pixels};

/// What to make of a file, and what to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave the pixels as they are stored instead of turning the image upright.
    pub ignore_exif: bool,
    /// The most pixels a image may have: 178,956,970 by default, where Pillow suspects a decompression bomb.
    pub max_pixels: usize,
    /// The most memory that one image may take, in bytes: its file, and its pixels with all that its decoder
    /// holds beside them. 1 GiB by default, which only a image of more than a hundred million pixels needs.
    pub max_bytes: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            ignore_exif: false,
            max_pixels: 178_956_970,
            max_bytes: 1 << 30,
        }
    }
}

/// Decodes one image. [`Decoder`] does the same for many, with less allocation.
///
/// # Errors
///
/// A file that cannot be read, is of no supported format, is damaged or truncated, or has too many pixels.
pub fn decode(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<RgbImage> {
    Decoder::new(options.clone()).decode(path.as_ref(), RgbImage::default())
}

/// Decodes images one after the other, and keeps the memory that files are read into.
#[derive(Clone, Debug)]
pub struct Decoder {
    options: DecodeOptions,
    file: Vec<u8>,
}

impl Decoder {
    /// A decoder that follows `options`.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            file: Vec::new(),
        }
    }

    /// Decodes `path` into the memory of `reuse`, whose pixels are of no interest any more.
    ///
    /// # Errors
    ///
    /// Those of [`decode`].
    pub fn decode(&mut self, path: &Path, reuse: RgbImage) -> Result<RgbImage> {
        read_file(path, self.options.max_bytes, &mut self.file)?;
        decode_bytes(&self.file, path, &self.options, reuse)
    }
}

/// Reads a whole file into `into`, whatever that held before.
///
/// # Errors
///
/// A file that cannot be read or is larger than `limit`, and whatever is no file: reading a pipe or a device may
/// never end.
pub(crate) fn read_file(path: &Path, limit: u64, into: &mut Vec<u8>) -> Result<()> {
    let io = |source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    };
    let about = fs::metadata(path).map_err(io)?;
    if !about.is_file() {
        return Err(undecodable(path, "it is no file"));
    }
    if about.len() > limit {
        return Err(Error::FileTooLarge {
            path: path.into(),
            bytes: about.len(),
            limit,
        });
    }
    into.clear();
    // The limit again, for a file that grows.
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(into))
        .map_err(io)?;
    Ok(())
}

/// Decodes the image in `bytes` into the memory of `reuse`; errors name it `name`.
///
/// # Errors
///
/// Those of [`decode`], except for reading the file.
pub fn decode_bytes(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<RgbImage> {
    decode_with_info(bytes, name, options, reuse).map(|(image, _)| image)
}

/// As [`decode_bytes`], with what the image was before it became upright 8-bit RGB.
///
/// # Errors
///
/// Those of [`decode_bytes`].
pub fn decode_with_info(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<(RgbImage, ImageInfo)> {
    let format = image::guess_format(bytes).map_err(|error| undecodable(name, error))?;
    let (image, orientation, stored) = match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, name, options, reuse)?,
        _ => other(bytes, format, name, options, reuse)?,
    };
    if options.ignore_exif || orientation == Orientation::NoTransforms {
        return Ok((image, stored));
    }
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok((image.into_rgb8(), stored))
}

/// The pixels as they are stored, how they must be turned, and what they were.
type Decoded = (RgbImage, Orientation, ImageInfo);

/// Every format but JPEG.
fn other(
    bytes: &[u8],
    format: ImageFormat,
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    // The widest pixel that is decoded has four channels of sixteen bits.
    let widest = (options.max_pixels as u64).saturating_mul(8);
    limits.max_alloc = Some(widest.min(options.max_bytes));
    reader.limits(limits);
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| undecodable(name, error))?;
    let (width, height) = decoder.dimensions();
    check_pixels(width as usize, height as usize, name, options)?;
    let color = decoder.color_type();
    let pixel = u64::from(color.bytes_per_pixel());
    let beside = match format {
        // The decoder fills a buffer of its own and copies it.
        ImageFormat::Tiff => pixel,
        // A lossless image's pixels, or a lossy one's planes and their upsampled rows.
        ImageFormat::WebP => 4,
        _ => 0,
    };
    let converted = if color == ColorType::Rgb8 { 0 } else { 3 };
    check_memory(width, height, pixel + beside + converted, name, options)?;
    let stored = ImageInfo::new(format, width, height, decoder.original_color_type());
    // Pillow reads images with damaged metadata too.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if color == ColorType::Rgb8 {
        return fill(width, height, reuse, |pixels| {
            decoder
                .read_image(pixels)
                .map_err(|error| undecodable(name, error))
        })
        .map(|image| (image, orientation, stored));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|error| undecodable(name, error))?;
    Ok((to_rgb8(image), orientation, stored))
}

/// A image of `width` × `height` in the memory of `reuse`, with the pixels that `write` writes.
fn fill(
    width: u32,
    height: u32,
    reuse: RgbImage,
    write: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<RgbImage> {
    let mut pixels = reuse.into_raw();
    // Cleared: a decoder that skips a damaged part must not show another image there.
    pixels.clear();
    pixels.resize(width as usize * height as usize * 3, 0);
    write(&mut pixels)?;
    Ok(RgbImage::from_raw(width, height, pixels).expect("the buffer has the image's size"))
}

fn to_rgb8(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let rgb: Vec<u8> = match &image {
        DynamicImage::ImageLuma16(gray) => gray.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(gray) => gray.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.pixels().flat_map(|p| p.0.map(high)).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba
            .pixels()
            .flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])])
            .collect(),
        _ => return image.into_rgb8(),
    };
    RgbImage::from_raw(width, height, rgb).expect("three bytes were collected for each pixel")
}

fn high(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

fn undecodable(name: &Path, reason: impl ToString) -> Error {
    Error::Decode {
        path: name.into(),
        reason: reason.to_string(),
    }
}
