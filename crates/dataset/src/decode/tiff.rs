//! Decodes the first image of a TIFF file to RGB, with Pillow's values.
//!
//! The crate `tiff`, which `image` uses, lacks palettes, YCbCr without JPEG, LZMA, and Zstandard
//! without a C library. `image` also refuses gray of 32 bits, signed gray and planes of CMYK, and
//! ignores associated alpha.
//!
//! The image is stored in chunks, which are strips of rows or tiles. Features that are not listed in
//! [`Color::new`] and [`ChunkReader::new`] are refused, because a wrong image is worse than none.

mod chunk;
mod color;
pub(super) mod directory;
mod unpack;

use std::path::Path;

use image::{ImageFormat, RgbImage};

use self::chunk::ChunkReader;
use self::color::Color;
use self::directory::Directory;
use super::buffer::fill;
use super::limits::{check_bytes, check_pixels};
use super::{DecodeOptions, Decoded, ImageInfo, undecodable, unsupported};
use crate::error::{Error, Result};
use crate::file_kind::CAMERA_RAW;

/// Numbers of tags.
mod tag {
    pub(super) const SUBFILE_TYPE: u16 = 254;
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_LENGTHS: u16 = 279;
    pub(super) const PLANAR: u16 = 284;
    pub(super) const FAX_OPTIONS: u16 = 292;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const PALETTE: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_LENGTHS: u16 = 325;
    pub(super) const SUB_DIRECTORIES: u16 = 330;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const JPEG_TABLES: u16 = 347;
    pub(super) const LUMA: u16 = 529;
    pub(super) const SUBSAMPLING: u16 = 530;
    pub(super) const REFERENCE_BLACK_WHITE: u16 = 532;
    pub(super) const DNG_VERSION: u16 = 50706;
}

/// More samples than in any image that is supported.
const MAX_SAMPLES: usize = 16;

pub(super) fn decode(
    bytes: &[u8],
    name: &Path,
    options: &DecodeOptions,
    reuse: RgbImage,
) -> Result<Decoded> {
    let header = Header::read(bytes, name)?;
    let (width, height) = (header.width, header.height);
    check_pixels(width as usize, height as usize, name, options)?;
    let color = Color::new(&header)?;
    let reader = ChunkReader::new(&header)?;
    // The pixels of the image, and those of a chunk with a copy of its compressed data.
    let chunk = u64::from(header.chunk.0) * u64::from(header.chunk.1);
    let chunk = chunk.saturating_mul(header.samples as u64 * u64::from(header.bits.div_ceil(8)));
    let pixels = u64::from(width) * u64::from(height) * 3;
    let needed = reader.memory(chunk).saturating_add(pixels);
    check_bytes(width, height, needed, name, options)?;
    let info = ImageInfo {
        format: ImageFormat::Tiff,
        width,
        height,
        channels: color.channels(&header),
        bits: header.bits as u8,
    };
    let image = fill(width, height, reuse, header.name, |pixels| {
        let row_length = 3 * width as usize;
        for (index, (left, top)) in header.chunk_origins().enumerate() {
            let chunk = reader.read(&header, index, top, options)?;
            let columns = header.chunk.0.min(width - left) as usize;
            let rows = header.chunk.1.min(height - top) as usize;
            for row in 0..rows {
                let start = (top as usize + row) * row_length + 3 * left as usize;
                color.convert(
                    &header,
                    &chunk,
                    row,
                    &mut pixels[start..start + 3 * columns],
                );
            }
        }
        Ok(())
    })?;
    Ok((image, info))
}

/// The structure of the pixel data.
struct Header<'a> {
    bytes: &'a [u8],
    name: &'a Path,
    directory: Directory<'a>,
    width: u32,
    height: u32,
    /// Width and height of a chunk. The strips at the bottom are lower.
    chunk: (u32, u32),
    is_tiled: bool,
    /// Whether each sample of a pixel is in its own chunk.
    is_planar: bool,
    samples: usize,
    bits: u32,
    format: SampleFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SampleFormat {
    Unsigned,
    Signed,
    Float,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8], name: &'a Path) -> Result<Self> {
        let directory = Directory::first(bytes)
            .filter(|directory| directory.is_complete)
            .ok_or_else(|| {
                undecodable(
                    name,
                    "a damaged TIFF image: the directory is missing or truncated",
                )
            })?;
        let mut header = Self {
            bytes,
            name,
            directory,
            width: 0,
            height: 0,
            chunk: (0, 0),
            is_tiled: false,
            is_planar: false,
            samples: 0,
            bits: 0,
            format: SampleFormat::Unsigned,
        };
        if header.is_camera_raw()? {
            let path = name.into();
            return Err(Error::NotAnImage {
                path,
                kind: CAMERA_RAW,
            });
        }
        header.width = header.integer(tag::WIDTH, 0)?;
        header.height = header.integer(tag::HEIGHT, 0)?;
        header.is_tiled = !header.directory.contains(tag::STRIP_OFFSETS);
        header.chunk = if header.is_tiled {
            let width = header.integer(tag::TILE_WIDTH, 0)?;
            (width, header.integer(tag::TILE_HEIGHT, 0)?)
        } else {
            let rows = header.integer(tag::ROWS_PER_STRIP, u32::MAX)?;
            (header.width, rows.min(header.height))
        };
        if header.width > 0 && header.height > 0 && (header.chunk.0 == 0 || header.chunk.1 == 0) {
            return Err(header.damaged("its strips or tiles have no pixels"));
        }
        header.samples = header.integer(tag::SAMPLES, 1)? as usize;
        if !(1..=MAX_SAMPLES).contains(&header.samples) {
            return Err(header.unsupported(&format!("{} samples per pixel", header.samples)));
        }
        header.is_planar = header.samples > 1 && header.integer(tag::PLANAR, 1)? == 2;
        header.bits = header.equal_values(tag::BITS, 1, "bits")?;
        header.format = match header.equal_values(tag::SAMPLE_FORMAT, 1, "formats")? {
            1 => SampleFormat::Unsigned,
            2 => SampleFormat::Signed,
            3 => SampleFormat::Float,
            other => return Err(header.unsupported(&format!("sample format {other}"))),
        };
        Ok(header)
    }

    /// Returns whether the first image is the thumbnail of a raw image, as in DNG, NEF and ARW files.
    fn is_camera_raw(&self) -> Result<bool> {
        let is_reduced = self.integer(tag::SUBFILE_TYPE, 0)? & 1 == 1;
        Ok(self.directory.contains(tag::DNG_VERSION)
            || is_reduced && self.directory.contains(tag::SUB_DIRECTORIES))
    }

    /// The first value of `tag`, or `default` without the tag.
    fn integer(&self, tag: u16, default: u32) -> Result<u32> {
        match self.directory.number(tag) {
            None => Ok(default),
            Some(value) if value == f64::from(value as u32) => Ok(value as u32),
            Some(value) => Err(self.damaged(&format!("tag {tag} has the value {value}"))),
        }
    }

    /// The value of a tag that has one value per sample. Pillow supports no different ones.
    fn equal_values(&self, tag: u16, default: u32, what: &str) -> Result<u32> {
        let values = self
            .directory
            .numbers(tag, self.samples)
            .unwrap_or_default();
        match values.split_first() {
            Some((first, rest)) if rest.iter().any(|value| value != first) => {
                Err(self.unsupported(&format!("samples of different {what}")))
            }
            _ => self.integer(tag, default),
        }
    }

    /// Number of samples of a pixel in a chunk.
    fn samples_in_chunk(&self) -> usize {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Columns and rows of chunks.
    fn grid(&self) -> (u32, u32) {
        (
            self.width.div_ceil(self.chunk.0),
            self.height.div_ceil(self.chunk.1),
        )
    }

    /// The left column and the top row of each chunk of a plane.
    fn chunk_origins(&self) -> impl Iterator<Item = (u32, u32)> {
        let ((across, down), (width, height)) = (self.grid(), self.chunk);
        (0..down).flat_map(move |y| (0..across).map(move |x| (x * width, y * height)))
    }

    fn damaged(&self, reason: &str) -> Error {
        undecodable(self.name, format!("a damaged TIFF image: {reason}"))
    }

    fn unsupported(&self, feature: &str) -> Error {
        unsupported(self.name, format!("a TIFF image with {feature}"))
    }
}
