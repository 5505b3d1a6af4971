//! Decodes image files to 8-bit RGB, as Pillow's `Image.open(path).convert("RGB")` does.
//!
//! The format is detected from the content, not from the extension. Gray is replicated to three
//! channels, alpha is dropped without compositing, palettes are expanded, and CMYK is converted.
//! Lossless formats give the same bytes as Pillow. JPEG and lossy WebP round differently in the
//! inverse transform and in chroma upsampling, by at most 0.6 of 255 levels on average.
//!
//! There are deliberate differences. The orientation in EXIF or XMP metadata is applied, while
//! torchvision ignores it; [`DecodeOptions::ignore_exif`] disables that. Gray of 12 or 16 bits keeps its
//! high byte, while Pillow saturates it at 255. For 16-bit color, both keep the high byte or, in PPM,
//! round.

mod budget;
mod buffer;
mod info;
mod jpeg;
mod levels;
mod limits;
mod orientation;
mod tiff;

use std::io::{Cursor, ErrorKind, Read as _};
use std::path::Path;

use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use crate::error::{Error, Result};
use crate::file_kind::FileKind;
use crate::open::open_without_waiting;
use crate::panic::catch_decoder_panic;
pub use crate::panic::is_decoding;
use budget::{Budget, Purpose};
use buffer::{fill, reserve};
pub use info::{Channels, ImageInfo};
use limits::{check_memory, check_pixels};

/// Decoder settings: resource limits, and whether the EXIF orientation is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Ignores the EXIF orientation, as torchvision does. The orientation of TIFF images is always
    /// applied.
    pub ignore_exif: bool,
    /// Maximum number of pixels. The default is 178,956,970, above which Pillow raises
    /// `DecompressionBombError`.
    pub max_pixels: usize,
    /// Maximum size in bytes of the file, and of the pixels together with the decoder's buffers.
    ///
    /// The images that are decoded at the same time with clones of these options share this memory,
    /// once for their files and once for their pixels. An image that does not fit waits for others.
    ///
    /// The default is 1 GiB. An 8-bit RGB image takes 3 to 12 bytes per pixel, depending on the
    /// format. Images with more channels or more bits per channel take more.
    pub max_bytes: u64,
    budget: Budget,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            ignore_exif: false,
            max_pixels: 178_956_970,
            max_bytes: 1 << 30,
            budget: Budget::default(),
        }
    }
}

impl DecodeOptions {
    setters! {
        ignore_exif: bool,
        max_pixels: usize,
        max_bytes: u64,
    }
}

/// Decodes one image. To decode many images with fewer allocations, use [`Decoder`].
///
/// # Errors
///
/// Returns an error if the file cannot be read, is not a regular file, has an unsupported format, is
/// damaged or truncated, or exceeds a limit.
pub fn decode(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<RgbImage> {
    Decoder::new(options.clone()).decode(path, RgbImage::default())
}

/// Decodes images and reuses the buffer for file contents.
#[derive(Clone, Debug)]
pub struct Decoder {
    options: DecodeOptions,
    file: Vec<u8>,
    /// The memory of the last image, if it is held until [`release`](Self::release).
    held: Option<DecodeOptions>,
    holds: bool,
}

/// Limits the metadata and the rows of an image in bytes. A decoder reads metadata, such as a
/// compressed color profile, before the memory of the image is reserved.
const MAX_METADATA: u64 = 64 << 20;

/// Buffers of at most this many bytes are kept for the next image.
const MAX_REUSED: usize = 64 << 20;

impl Decoder {
    /// Creates a decoder that applies `options` to every image.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            file: Vec::new(),
            held: None,
            holds: false,
        }
    }

    /// Creates a decoder that holds the memory of the last image until [`release`](Self::release) or
    /// the next image, so that the memory of images in use is limited too.
    pub(crate) fn holding(options: DecodeOptions) -> Self {
        Self {
            holds: true,
            ..Self::new(options)
        }
    }

    /// Releases the memory of the last image, which the caller no longer uses.
    pub(crate) fn release(&mut self) {
        self.held = None;
        drop_large_file(&mut self.file);
    }

    /// Decodes the file at `path`. The result may use the buffer of `reuse`, whose pixels are
    /// discarded.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as [`decode`].
    pub fn decode(&mut self, path: impl AsRef<Path>, reuse: RgbImage) -> Result<RgbImage> {
        let path = path.as_ref();
        self.release();
        let options = self.options.clone();
        read_file(path, &options, &mut self.file)?;
        let result = decode_reserved(&self.file, path, &options, reuse);
        if self.holds {
            self.held = Some(options);
        } else {
            drop_large_file(&mut self.file);
        }
        result.map(|(image, _)| image)
    }

    /// The contents of the last file that was read, or nothing after [`forget`](Self::forget).
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.file
    }

    /// Discards the contents of the last file, but keeps the buffer.
    pub(crate) fn forget(&mut self) {
        self.file.clear();
    }
}

/// Frees the buffer of an image, unless it is small enough to keep it for the next one.
pub(crate) fn drop_large(image: &mut RgbImage) {
    if image.as_raw().capacity() > MAX_REUSED {
        *image = RgbImage::default();
    }
}

/// Like [`drop_large`], for the contents of a file.
pub(crate) fn drop_large_file(file: &mut Vec<u8>) {
    if file.capacity() > MAX_REUSED {
        *file = Vec::new();
    }
}

/// Reads a file of at most [`DecodeOptions::max_bytes`] into `into`, which is cleared first. `options`
/// reserve its memory.
///
/// # Errors
///
/// Returns an error if the file cannot be read, is larger than the limit, or is not a regular file,
/// because reading a pipe or a device may never end.
pub(crate) fn read_file(path: &Path, options: &DecodeOptions, into: &mut Vec<u8>) -> Result<()> {
    let limit = options.max_bytes;
    let io = Error::io(path);
    let file = open_without_waiting(path).map_err(&io)?;
    let metadata = file.metadata().map_err(&io)?;
    if !metadata.is_file() {
        return Err(undecodable(path, "not a regular file"));
    }
    if metadata.len() > limit {
        return Err(Error::FileTooLarge {
            path: path.into(),
            bytes: metadata.len(),
            limit,
        });
    }
    options.budget.reserve(Purpose::File, metadata.len(), limit);
    into.clear();
    reserve(into, metadata.len() as usize, path)?;
    // The limit applies here too, because the file may have grown.
    file.take(limit).read_to_end(into).map_err(io)?;
    Ok(())
}

/// Decodes an image from the file contents `bytes`. The result may use the buffer of `reuse`, whose
/// pixels are discarded. Errors report `name` as the path.
///
/// # Errors
///
/// Returns an error if the format is not supported, if the data is damaged or truncated, or if the
/// image exceeds a limit. The length of `bytes` is not limited.
pub fn decode_bytes(
    bytes: &[u8],
    name: impl AsRef<Path>,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<RgbImage> {
    decode_with_info(bytes, name, options, reuse).map(|(image, _)| image)
}

/// Like [`decode_bytes`], but also returns the properties of the stored image.
///
/// # Errors
///
/// Returns an error in the same cases as [`decode_bytes`].
pub fn decode_with_info(
    bytes: &[u8],
    name: impl AsRef<Path>,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<(RgbImage, ImageInfo)> {
    decode_reserved(bytes, name.as_ref(), &options.clone(), reuse)
}

/// Like [`decode_with_info`], but `options` keep the memory reserved until they are dropped.
pub(crate) fn decode_reserved(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<(RgbImage, ImageInfo)> {
    let kind = FileKind::detect(bytes);
    let Some(format) = kind.format() else {
        return Err(Error::NotAnImage {
            path: name.into(),
            kind,
        });
    };
    let decoded = catch_decoder_panic(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, name, options, reuse),
        ImageFormat::Tiff => tiff::decode(bytes, name, options, reuse),
        _ => decode_other(bytes, format, name, options, reuse),
    });
    let damaged = || Err(undecodable(name, format!("a damaged {}", kind.name())));
    let (image, info) = decoded.unwrap_or_else(damaged)?;
    // For TIFF, torchvision does not ignore it: Pillow applies it as it loads the pixels.
    if options.ignore_exif && format != ImageFormat::Tiff {
        return Ok((image, info));
    }
    let orientation = orientation::find(bytes, format);
    if orientation == Orientation::NoTransforms {
        return Ok((image, info));
    }
    // Rotations copy the image.
    let copy = image.as_raw().len() as u64;
    options
        .budget
        .reserve(Purpose::Image, copy, options.max_bytes);
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok((image.into_rgb8(), info))
}

/// The stored pixels as RGB, and the properties of the stored image.
type Decoded = (RgbImage, ImageInfo);

/// Decodes formats other than JPEG and TIFF.
fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_METADATA.min(options.max_bytes));
    reader.limits(limits);
    let decode_error = |error| decode_error(error, bytes, name);
    let decoder = reader.into_decoder().map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    check_pixels(width as usize, height as usize, name, options)?;
    let color = decoder.color_type();
    let pixel = u64::from(color.bytes_per_pixel());
    let buffers = match format {
        // The WebP decoder buffers the pixels of a lossless image, or the planes and upsampled rows
        // of a lossy one.
        ImageFormat::WebP => 4,
        _ => 0,
    };
    let converted = if color == ColorType::Rgb8 { 0 } else { 3 };
    check_memory(width, height, pixel + buffers + converted, name, options)?;
    let info = ImageInfo::new(format, width, height, decoder.original_color_type());
    let mut image = if color == ColorType::Rgb8 {
        fill(width, height, reuse, name, |pixels| {
            decoder.read_image(pixels).map_err(decode_error)
        })?
    } else {
        let image = DynamicImage::from_decoder(decoder).map_err(decode_error)?;
        to_rgb8(image, format, bytes)
    };
    levels::correct(&mut image, format, bytes);
    Ok((image, info))
}

/// Converts an error of the crate `image`, whose messages name its own types.
fn decode_error(error: ImageError, bytes: &[u8], name: &Path) -> Error {
    let path = name.into();
    let kind = FileKind::detect(bytes);
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Error::Truncated { path }
        }
        ImageError::Limits(_) => undecodable(name, format!("the metadata of {kind} is too large")),
        ImageError::Unsupported(_) => unsupported(name, format!("{kind} of an unusual kind")),
        _ if is_empty_png(bytes) => undecodable(name, limits::NO_PIXELS),
        _ => undecodable(name, format!("a damaged {}", kind.name())),
    }
}

/// Whether the width or the height in the header of a PNG is 0.
fn is_empty_png(bytes: &[u8]) -> bool {
    bytes.get(12..24).is_some_and(|header| {
        header.starts_with(b"IHDR") && (header[4..8] == [0; 4] || header[8..12] == [0; 4])
    })
}

/// Converts an image of another color type. 16-bit samples keep their high byte, except for color in
/// PNM images.
fn to_rgb8(image: DynamicImage, format: ImageFormat, bytes: &[u8]) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let max = match format {
        ImageFormat::Pnm => Some(levels::pnm_maximum(bytes)).filter(|&max| max > 0),
        _ => None,
    };
    let gray = |value| max.map_or(high_byte(value), |max| levels::pnm_gray(value, max));
    let color = |value| max.map_or(high_byte(value), |max| levels::pnm_color(value, max));
    let rgb: Vec<u8> = match &image {
        DynamicImage::ImageLuma16(image) => {
            image.pixels().flat_map(|p| [gray(p.0[0]); 3]).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| [gray(p.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.pixels().flat_map(|p| p.0.map(color)).collect(),
        DynamicImage::ImageRgba16(image) => image
            .pixels()
            .flat_map(|p| [color(p.0[0]), color(p.0[1]), color(p.0[2])])
            .collect(),
        _ => return image.into_rgb8(),
    };
    RgbImage::from_raw(width, height, rgb).expect("three bytes per pixel")
}

fn high_byte(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

fn undecodable(name: &Path, reason: impl ToString) -> Error {
    Error::Decode {
        path: name.into(),
        reason: reason.to_string(),
    }
}

fn unsupported(name: &Path, feature: String) -> Error {
    Error::Unsupported {
        path: name.into(),
        feature,
    }
}
