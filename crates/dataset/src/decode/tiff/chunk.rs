//! Reads the strips and tiles of a TIFF image.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;
use image::RgbImage;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::directory::ByteOrder;
use super::{Header, SampleFormat, tag, unpack};
use crate::decode::buffer::zeros;
use crate::decode::{DecodeOptions, jpeg};
use crate::error::Result;

/// More chunks than in any real file. Each takes time, and 16 bytes of memory.
const MAX_CHUNKS: u64 = 1 << 20;

/// Pixels outside of the image, in addition to 16 times its pixels, and compressed bytes of all chunks,
/// in addition to 16 times the file. Decoding them takes time.
const MAX_PADDING: u64 = 1 << 26;

/// Memory for the dictionary of LZMA in KiB, and for that of Zstandard. libtiff uses at most 64 MiB.
const DICTIONARY_KIB: u32 = 128 << 10;

/// The storage format that all chunks share, and their positions.
pub(super) struct ChunkReader {
    compression: Compression,
    predictor: u32,
    /// Whether the bits of each byte are stored in reverse order.
    is_reversed: bool,
    /// Pixels per sample of chroma: horizontal, vertical.
    subsampling: (usize, usize),
    offsets: Vec<f64>,
    /// Compressed lengths. May be shorter than `offsets`.
    lengths: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Fax3,
    Fax4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Lzma,
    Zstd,
}

/// The pixels of a chunk.
pub(super) enum Chunk {
    /// Converted to RGB by a decoder of another format.
    Rgb(RgbImage),
    /// Rows of samples, of all samples or of one sample each.
    Samples(Vec<Plane>),
}

/// Rows of samples, each padded to whole bytes.
pub(super) struct Plane {
    bytes: Vec<u8>,
    row_length: usize,
}

impl Plane {
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_length..][..self.row_length]
    }
}

impl ChunkReader {
    pub(super) fn new(header: &Header) -> Result<Self> {
        let (compression, predictor) = compression(header)?;
        let planes = header.samples / header.samples_in_chunk();
        let (across, down) = header.grid();
        let chunks = (u64::from(across) * u64::from(down)).saturating_mul(planes as u64);
        if chunks > MAX_CHUNKS {
            return Err(header.unsupported(&format!("{chunks} strips or tiles")));
        }
        let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        let decoded = chunks.saturating_mul(area(header.chunk));
        if decoded > MAX_PADDING.saturating_add(16 * area((header.width, header.height))) {
            return Err(header.unsupported("tiles that are much larger than the image"));
        }
        let chunks = chunks as usize;
        let (offsets, lengths) = if header.is_tiled {
            (tag::TILE_OFFSETS, tag::TILE_LENGTHS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_LENGTHS)
        };
        let numbers = |tag| header.directory.numbers(tag, chunks).unwrap_or_default();
        let (offsets, lengths) = (numbers(offsets), numbers(lengths));
        if offsets.len() < chunks {
            return Err(header.damaged(&format!(
                "it has {} of {chunks} strips or tiles",
                offsets.len()
            )));
        }
        let mut subsampling = (1, 1);
        if header.integer(tag::PHOTOMETRIC, 0)? == 6 && compression != Compression::Jpeg {
            let factors = header.directory.numbers(tag::SUBSAMPLING, 2);
            subsampling = match factors.as_deref() {
                None | Some([2.0, 2.0]) => (2, 2),
                Some(&[h, v]) if [h, v].iter().all(|factor| [1.0, 2.0, 4.0].contains(factor)) => {
                    (h as usize, v as usize)
                }
                _ => return Err(header.damaged("its subsampling is out of range")),
            };
            let is_supported = header.samples == 3 && !header.is_planar && predictor == 1;
            if subsampling != (1, 1) && !is_supported {
                return Err(header.unsupported("subsampled chroma in planes or with a predictor"));
            }
        }
        let reader = Self {
            compression,
            predictor,
            is_reversed: header.integer(tag::FILL_ORDER, 1)? == 2,
            subsampling,
            offsets,
            lengths,
        };
        reader.check_stored(header)?;
        Ok(reader)
    }

    /// Returns an error if so many chunks share their data that a small file takes much time.
    fn check_stored(&self, header: &Header) -> Result<()> {
        let tables = header.directory.bytes(tag::JPEG_TABLES);
        let tables = tables.map_or(0, <[u8]>::len);
        let chunks = (0..self.offsets.len()).map(|index| self.rest(header, index));
        let sum: u64 = chunks
            .map(|(rest, length)| (rest.len().min(length) + tables) as u64)
            .sum();
        let limit = MAX_PADDING + 16 * header.bytes.len() as u64;
        if self.compression != Compression::None && sum > limit {
            return Err(header.unsupported("strips or tiles that share their data"));
        }
        Ok(())
    }

    /// Bytes in memory while a chunk of `chunk` bytes is decoded.
    pub(super) fn memory(&self, chunk: u64) -> u64 {
        let buffer = match self.compression {
            // The dictionary grows up to twice the decoded bytes.
            Compression::Lzma | Compression::Zstd => {
                chunk.saturating_mul(2).min(u64::from(DICTIONARY_KIB) << 10)
            }
            _ if self.subsampling != (1, 1) => chunk,
            _ => 0,
        };
        chunk.saturating_add(buffer)
    }

    /// Reads the chunk with this index within a plane. `top` is its first row.
    pub(super) fn read(
        &self,
        header: &Header,
        index: usize,
        top: u32,
        options: &DecodeOptions,
    ) -> Result<Chunk> {
        let (width, height) = (header.chunk.0, header.chunk.1.min(header.height - top));
        let height = if header.is_tiled {
            header.chunk.1
        } else {
            height
        };
        let (columns, rows) = (width as usize, height as usize);
        if self.compression == Compression::Jpeg {
            let stream = jpeg_stream(header, &self.data(header, index, usize::MAX)?)?;
            let (image, _) = jpeg::decode(&stream, header.name, options, RgbImage::default())?;
            // Rows may follow, up to the end of an MCU of at most 32 rows.
            let columns = width.min(header.width)..=width;
            let rows = height.min(header.height - top)..=header.chunk.1.saturating_add(31);
            if !columns.contains(&image.width()) || !rows.contains(&image.height()) {
                return Err(header.damaged("a strip or tile has the wrong size"));
            }
            return Ok(Chunk::Rgb(image));
        }
        let (h, v) = self.subsampling;
        let row_length = if self.subsampling == (1, 1) {
            (columns * header.samples_in_chunk() * header.bits as usize).div_ceil(8)
        } else {
            columns.div_ceil(h) * (h * v + 2)
        };
        let length = row_length * rows.div_ceil(v);
        let planes = header.samples / header.samples_in_chunk();
        let per_plane = self.offsets.len() / planes;
        let mut chunk = Vec::with_capacity(planes);
        for plane in 0..planes {
            let data = self.data(header, plane * per_plane + index, length)?;
            let mut bytes = zeros(length, header.name)?;
            if !self.decompress(&data, columns, &mut bytes) {
                return Err(header.damaged("a strip or tile is truncated or damaged"));
            }
            for row in bytes.chunks_exact_mut(row_length) {
                self.undo_predictor(header, row);
            }
            chunk.push(Plane { bytes, row_length });
        }
        if self.subsampling != (1, 1) {
            let mut bytes = zeros(3 * columns * rows, header.name)?;
            upsample(&chunk[0].bytes, columns, self.subsampling, &mut bytes);
            chunk = vec![Plane {
                bytes,
                row_length: 3 * columns,
            }];
        }
        Ok(Chunk::Samples(chunk))
    }

    /// The bytes from the offset of a chunk on, and the length in the directory.
    fn rest<'a>(&self, header: &Header<'a>, index: usize) -> (&'a [u8], usize) {
        let rest = header.bytes.get(self.offsets[index] as usize..);
        let length = self.lengths.get(index);
        let length = length.map_or(usize::MAX, |&length| length as usize);
        (rest.unwrap_or_default(), length)
    }

    /// The compressed bytes of a chunk. Without compression, these are `length` bytes.
    fn data<'a>(&self, header: &Header<'a>, index: usize, length: usize) -> Result<Cow<'a, [u8]>> {
        let (rest, stored) = self.rest(header, index);
        let is_raw = self.compression == Compression::None;
        if is_raw && self.subsampling != (1, 1) && stored != length {
            return Err(header.damaged("a strip does not have the length for its subsampling"));
        }
        let data = &rest[..rest.len().min(if is_raw { length } else { stored })];
        if self.is_reversed && self.compression != Compression::Jpeg {
            return Ok(data.iter().map(|byte| byte.reverse_bits()).collect());
        }
        Ok(data.into())
    }

    /// Fills `out` with the decompressed `data`. Returns whether it is complete.
    fn decompress(&self, data: &[u8], columns: usize, out: &mut [u8]) -> bool {
        match self.compression {
            Compression::None => Cursor::new(data).read_exact(out).is_ok(),
            Compression::Deflate => ZlibDecoder::new(data).read_exact(out).is_ok(),
            Compression::Lzma => XzReader::new_mem_limit(data, false, DICTIONARY_KIB)
                .read_exact(out)
                .is_ok(),
            // Its default limit is the same.
            Compression::Zstd => {
                StreamingDecoder::new(data).is_ok_and(|mut decoder| decoder.read_exact(out).is_ok())
            }
            Compression::Lzw => unpack::lzw(data, out),
            Compression::PackBits => unpack::pack_bits(data, out),
            Compression::Fax3 => unpack::group3(data, columns, out),
            Compression::Fax4 => unpack::group4(data, columns, out),
            // `read` decodes it.
            Compression::Jpeg => false,
        }
    }

    /// Adds the differences that are stored instead of samples.
    fn undo_predictor(&self, header: &Header, row: &mut [u8]) {
        let (order, stride) = (header.directory.order, header.samples_in_chunk());
        let size = header.bits as usize / 8;
        match self.predictor {
            2 => {
                for position in (stride * size..row.len()).step_by(size) {
                    let before = order.integer(&row[position - stride * size..][..size]);
                    let sum = before.wrapping_add(order.integer(&row[position..][..size]));
                    match order {
                        ByteOrder::Little => {
                            row[position..][..size].copy_from_slice(&sum.to_le_bytes()[..size])
                        }
                        ByteOrder::Big => {
                            row[position..][..size].copy_from_slice(&sum.to_be_bytes()[8 - size..])
                        }
                    }
                }
            }
            3 => {
                for position in stride..row.len() {
                    row[position] = row[position].wrapping_add(row[position - stride]);
                }
                // The bytes of all samples are sorted by significance.
                let sorted = row.to_vec();
                let count = row.len() / 4;
                for (index, sample) in row.chunks_exact_mut(4).enumerate() {
                    let mut bytes = [0, 1, 2, 3].map(|byte| sorted[byte * count + index]);
                    if order == ByteOrder::Little {
                        bytes.reverse();
                    }
                    sample.copy_from_slice(&bytes);
                }
            }
            _ => {}
        }
    }
}

/// Returns the compression and the predictor.
fn compression(header: &Header) -> Result<(Compression, u32)> {
    let number = header.integer(tag::COMPRESSION, 1)?;
    let compression = match number {
        1 => Compression::None,
        3 if header.integer(tag::FAX_OPTIONS, 0)? & 1 == 0 => Compression::Fax3,
        4 => Compression::Fax4,
        5 => Compression::Lzw,
        7 => Compression::Jpeg,
        8 | 32946 => Compression::Deflate,
        32773 => Compression::PackBits,
        34925 => Compression::Lzma,
        50000 => Compression::Zstd,
        _ => {
            let name = match number {
                2 => "CCITT RLE compression",
                3 => "two-dimensional CCITT Group 3 compression",
                6 => "old-style JPEG compression",
                33003 | 33005 | 34712 => "JPEG 2000 compression",
                34676 | 34677 => "LogLuv compression",
                50001 => "WebP compression",
                50002 => "JPEG XL compression",
                _ => &format!("compression {number}"),
            };
            return Err(header.unsupported(name));
        }
    };
    let (bits, samples) = (header.bits, header.samples_in_chunk());
    match compression {
        Compression::Fax3 | Compression::Fax4 if bits * samples as u32 != 1 => {
            return Err(header.damaged("CCITT compression of more than one bit per pixel"));
        }
        Compression::Jpeg if bits != 8 || header.is_planar => {
            return Err(header.unsupported("JPEG compression of planes, or not of 8 bits"));
        }
        _ => {}
    }
    // libtiff ignores the predictor of other compressions.
    let has_predictor = matches!(
        compression,
        Compression::Lzw | Compression::Deflate | Compression::Lzma | Compression::Zstd
    );
    let predictor = if has_predictor {
        header.integer(tag::PREDICTOR, 1)?
    } else {
        1
    };
    match (predictor, bits, header.format) {
        (1, ..) | (2, 8 | 16 | 32, _) | (3, 32, SampleFormat::Float) => {
            Ok((compression, predictor))
        }
        _ => Err(header.unsupported(&format!("predictor {predictor} for samples of {bits} bits"))),
    }
}

/// Combines the JPEG of a chunk with the tables that all chunks share, and states its color space.
fn jpeg_stream(header: &Header, data: &[u8]) -> Result<Vec<u8>> {
    let photometric = header.integer(tag::PHOTOMETRIC, 0)?;
    let transform: &[u8] = match (photometric, header.samples) {
        (0 | 1, 1) => &[],
        (2, 3) => b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0",
        (6, 3) => b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x01",
        _ => return Err(header.unsupported("JPEG compression of this color")),
    };
    let tables = header.directory.bytes(tag::JPEG_TABLES).unwrap_or_default();
    let tables = tables.strip_prefix(b"\xff\xd8").unwrap_or_default();
    let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    let mut stream = [b"\xff\xd8", tables, transform].concat();
    let mut rest = data.strip_prefix(b"\xff\xd8").unwrap_or(data);
    // Markers of applications could state another color space.
    while let &[0xff, 0xe0..=0xef, high, low, ..] = rest {
        let length = 2 + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(length..).unwrap_or_default();
    }
    stream.extend_from_slice(rest);
    Ok(stream)
}

/// Converts blocks of h·v values of Y and one each of Cb and Cr to rows of three samples per pixel.
fn upsample(blocks: &[u8], columns: usize, (h, v): (usize, usize), samples: &mut [u8]) {
    let block_length = h * v + 2;
    let row_length = columns.div_ceil(h) * block_length;
    for (y, row) in samples.chunks_exact_mut(3 * columns).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let block = &blocks[y / v * row_length + x / h * block_length..][..block_length];
            pixel.copy_from_slice(&[block[y % v * h + x % h], block[h * v], block[h * v + 1]]);
        }
    }
}

/// The sample with this index in a row.
pub(super) fn sample(row: &[u8], index: usize, bits: u32, order: ByteOrder) -> u32 {
    match bits {
        8 => u32::from(row[index]),
        16 => order.integer(&row[2 * index..][..2]) as u32,
        32 => order.integer(&row[4 * index..][..4]) as u32,
        // From the most significant bit on, also across bytes.
        _ => {
            let first = index * bits as usize;
            let bytes = [row[first / 8], row.get(first / 8 + 1).copied().unwrap_or(0)];
            let shift = 16 - bits - first as u32 % 8;
            u32::from(u16::from_be_bytes(bytes)) >> shift & ((1 << bits) - 1)
        }
    }
}
