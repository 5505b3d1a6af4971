//! Finds the orientation of an image in its metadata, where Pillow's `exif_transpose` finds it.
//!
//! The tag in EXIF metadata counts, also if its value is not an orientation. Without the tag, the
//! property `tiff:Orientation` in XMP metadata counts.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use image::ImageFormat;
use image::metadata::Orientation;

use super::jpeg::headers::{SOS, Segments};
use super::tiff::directory::Directory;

const ORIENTATION: u16 = 0x0112;

/// Limits the size of a text chunk of a PNG, before and after decompression, as in Pillow.
const MAX_TEXT: usize = 1 << 20;

/// Returns the orientation of the image in the file contents `bytes`. Damaged metadata is ignored,
/// as are values other than 1 to 8.
pub(super) fn find(bytes: &[u8], format: ImageFormat) -> Orientation {
    let Metadata { exif, xmp } = match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff => tiff(bytes),
        _ => Metadata::default(),
    };
    let value = exif
        .as_deref()
        .and_then(exif_value)
        .or_else(|| xmp.as_deref().and_then(xmp_value));
    let valid = value.filter(|value| (1.0..=8.0).contains(value) && value.fract() == 0.0);
    valid
        .and_then(|value| Orientation::from_exif(value as u8))
        .unwrap_or(Orientation::NoTransforms)
}

#[derive(Default)]
struct Metadata<'a> {
    /// The structure of a TIFF file. A prefix `Exif\0\0` is allowed.
    exif: Option<Cow<'a, [u8]>>,
    xmp: Option<Cow<'a, [u8]>>,
}

/// The value of the orientation tag, or 0 if the tag is not a number.
fn exif_value(exif: &[u8]) -> Option<f64> {
    let prefix = b"Exif\0\0";
    let exif = exif.strip_prefix(prefix).unwrap_or(exif);
    let exif = exif.strip_prefix(prefix).unwrap_or(exif);
    let directory = Directory::first(exif)?;
    let value = directory.number(ORIENTATION).unwrap_or(0.0);
    match (
        directory.contains(ORIENTATION),
        directory.has_bytes(ORIENTATION),
    ) {
        (true, false) => Some(value),
        // To Pillow, values of the type BYTE are not numbers.
        (true, true) => Some(0.0),
        (false, _) => None,
    }
}

/// The digit in `tiff:Orientation="6"` or `<tiff:Orientation>6</tiff:Orientation>`.
fn xmp_value(xmp: &[u8]) -> Option<f64> {
    let name = b"tiff:Orientation";
    let after = |position: usize| &xmp[position + name.len()..];
    let names = xmp
        .windows(name.len())
        .enumerate()
        .filter(|(_, window)| window == name);
    names
        .filter_map(|(position, _)| {
            let rest = after(position);
            rest.strip_prefix(b"=\"")
                .or_else(|| rest.strip_prefix(b">"))?
                .first()
        })
        .find(|digit| digit.is_ascii_digit())
        .map(|digit| f64::from(digit - b'0'))
}

/// The metadata in the APP1 segments before the first scan. EXIF metadata may be in several
/// segments.
fn jpeg(bytes: &[u8]) -> Metadata<'_> {
    let mut metadata = Metadata::default();
    let segments = Segments::new(bytes).take_while(|(marker, _)| *marker != SOS);
    for (_, payload) in segments.filter(|(marker, _)| *marker == 0xE1) {
        if let Some(part) = payload.strip_prefix(b"Exif\0\0") {
            match &mut metadata.exif {
                Some(exif) => exif.to_mut().extend_from_slice(part),
                None => metadata.exif = Some(part.into()),
            }
        } else if let Some(xmp) = payload.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
            metadata.xmp = Some(xmp.into());
        }
    }
    metadata
}

/// The metadata in the chunks before and after the pixels. The last chunk of each kind counts. Text
/// chunks can hold EXIF metadata in hexadecimal, which counts if there is no EXIF chunk.
fn png(bytes: &[u8]) -> Metadata<'_> {
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    let mut has_pixels = false;
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, after)) = rest.split_at_checked(8) {
        let (length, name) = head.split_at(4);
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(data) = after.get(..length) else {
            break;
        };
        match name {
            b"eXIf" => exif = Some(data),
            b"tEXt" | b"zTXt" | b"iTXt" => match data.iter().position(|&byte| byte == 0) {
                Some(end) if &data[..end] == b"Raw profile type exif" => {
                    profile = Some((name, data))
                }
                Some(end) if &data[..end] == b"XML:com.adobe.xmp" => xmp = Some((name, data)),
                _ => {}
            },
            b"IDAT" => has_pixels = true,
            b"IEND" => break,
            // The next frame of an animation.
            b"fcTL" if has_pixels => break,
            _ => {}
        }
        // A checksum of 4 bytes follows.
        rest = after.get(length + 4..).unwrap_or_default();
    }
    let text = |(name, data)| text(name, data);
    Metadata {
        exif: match exif {
            Some(exif) => Some(exif.into()),
            None => profile
                .and_then(text)
                .and_then(|text| raw_profile(&text))
                .map(Cow::Owned),
        },
        xmp: xmp.and_then(text),
    }
}

/// The text of a chunk of type `name`.
fn text<'a>(name: &[u8], data: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let field = |data: &'a [u8]| {
        let end = data.iter().position(|&byte| byte == 0)?;
        Some(&data[end + 1..])
    };
    // The keyword.
    let data = field(data)?;
    let (compressed, text) = match name {
        b"tEXt" => (false, data),
        // The compression method, 0.
        b"zTXt" => (true, data.strip_prefix(&[0])?),
        _ => {
            let (flags, data) = data.split_at_checked(2)?;
            if flags[1] != 0 {
                return None;
            }
            // The language, and the keyword in that language.
            (flags[0] != 0, field(field(data)?)?)
        }
    };
    if text.len() > MAX_TEXT {
        return None;
    }
    if !compressed {
        return Some(text.into());
    }
    let mut inflated = Vec::new();
    let mut decoder = ZlibDecoder::new(text).take(MAX_TEXT as u64 + 1);
    decoder.read_to_end(&mut inflated).ok()?;
    (inflated.len() <= MAX_TEXT).then_some(inflated.into())
}

/// Decodes the hexadecimal digits after the third line break, which follow the name and the length.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.splitn(4, |&byte| byte == b'\n');
    let digits: Option<Vec<u8>> = lines
        .last()?
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    let pairs = digits?;
    let (pairs, rest) = pairs.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The metadata in the chunks that the extended header announces. The first chunk of each kind
/// counts.
fn webp(bytes: &[u8]) -> Metadata<'_> {
    let mut metadata = Metadata::default();
    let Some(&[b'V', b'P', b'8', b'X', _, _, _, _, flags]) = bytes.get(12..21) else {
        return metadata;
    };
    let (has_xmp, has_exif) = (flags & 4 != 0, flags & 8 != 0);
    let mut rest = &bytes[12..];
    while let Some((head, after)) = rest.split_at_checked(8) {
        let (name, length) = head.split_at(4);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(data) = after.get(..length) else {
            break;
        };
        match name {
            b"EXIF" if has_exif && metadata.exif.is_none() => metadata.exif = Some(data.into()),
            b"XMP " if has_xmp && metadata.xmp.is_none() => metadata.xmp = Some(data.into()),
            _ => {}
        }
        // Chunks have an even length.
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    metadata
}

/// The directory of the first image, and XMP metadata in its tag 700.
fn tiff(bytes: &[u8]) -> Metadata<'_> {
    let xmp = Directory::first(bytes).and_then(|directory| directory.bytes(700));
    Metadata {
        exif: Some(bytes.into()),
        xmp: xmp.map(Cow::Borrowed),
    }
}
