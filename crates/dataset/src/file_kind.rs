//! Detects what a file contains from its first bytes, regardless of its extension.

use std::fmt;

use image::ImageFormat;

/// The kind of a file: a supported image, another image, or a file that is not an image.
///
/// `Display` writes the kind with its article, such as `a HEIC image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKind {
    /// The kind with its article.
    name: &'static str,
    /// The step that makes a file of this kind usable as an image.
    remedy: &'static str,
    format: Option<ImageFormat>,
}

const REPLACE: &str = "replace or remove it";
const REMOVE: &str = "remove it";
const REPEAT: &str = "copy or download the image again";
const TO_JPEG: &str = "convert it to JPEG";
const TO_PNG: &str = "convert it to PNG";
const UNPACK: &str = "unpack it";

pub(crate) const CAMERA_RAW: FileKind = FileKind::other("a camera raw image", TO_JPEG);
const UNKNOWN: FileKind = FileKind::other("a file in an unknown format", REPLACE);
const TEXT: FileKind = FileKind::other("a text file", REPLACE);
const HEIC: FileKind = FileKind::other("a HEIC image", TO_JPEG);
const AVIF: FileKind = FileKind::other("an AVIF image", TO_JPEG);
const VIDEO: FileKind = FileKind::other("a video", "extract its frames as images");
const TIFF: FileKind = FileKind::image("a TIFF image", ImageFormat::Tiff);
const JPEG_XL: FileKind = FileKind::other("a JPEG XL image", TO_JPEG);
const JPEG_2000: FileKind = FileKind::other("a JPEG 2000 image", TO_JPEG);

/// First bytes of each kind. The first row that matches counts.
#[rustfmt::skip] // One kind per line.
const SIGNATURES: [(&[u8], FileKind); 52] = [
    (b"\xff\xd8\xff", FileKind::image("a JPEG image", ImageFormat::Jpeg)),
    (b"\x89PNG\r\n\x1a\n", FileKind::image("a PNG image", ImageFormat::Png)),
    // Canon CR2, Panasonic, Olympus, Fujifilm, Sigma and Minolta. Several begin like a TIFF image.
    (b"II*\0\x10\0\0\0CR", CAMERA_RAW),
    (b"IIU\0", CAMERA_RAW),
    (b"IIRO", CAMERA_RAW),
    (b"IIRS", CAMERA_RAW),
    (b"MMOR", CAMERA_RAW),
    (b"FUJIFILMCCD-RAW", CAMERA_RAW),
    (b"FOVb", CAMERA_RAW),
    (b"\0MRM", CAMERA_RAW),
    (b"II\x1a\0\0\0HEAPCCDR", CAMERA_RAW),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"GIF87a", FileKind::other("a GIF image", TO_PNG)),
    (b"GIF89a", FileKind::other("a GIF image", TO_PNG)),
    (b"\xff\x0a", JPEG_XL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x4f\xff\x51", JPEG_2000),
    (b"II\xbc", FileKind::other("a JPEG XR image", TO_JPEG)),
    (b"\0\0\x01\0", FileKind::other("an ICO image", TO_PNG)),
    (b"8BPS", FileKind::other("a Photoshop image", TO_PNG)),
    (b"qoif", FileKind::other("a QOI image", TO_PNG)),
    (b"DDS ", FileKind::other("a DDS image", TO_PNG)),
    (b"v/1\x01", FileKind::other("an OpenEXR image", TO_PNG)),
    (b"#?RADIANCE", FileKind::other("a Radiance HDR image", TO_PNG)),
    (b"SIMPLE  =", FileKind::other("a FITS image", TO_PNG)),
    (b"farbfeld", FileKind::other("a farbfeld image", TO_PNG)),
    (b"gimp xcf", FileKind::other("a GIMP image", TO_PNG)),
    (b"%PDF", FileKind::other("a PDF document", "export its images as PNG")),
    (b"%!PS", FileKind::other("a PostScript document", "export its images as PNG")),
    (b"version https://git-lfs", FileKind::other("a Git LFS pointer", "run `git lfs pull`")),
    (b"\0\x05\x16\x07", FileKind::other("an AppleDouble file", REMOVE)),
    (b"\0\x05\x16\0", FileKind::other("an AppleSingle file", REMOVE)),
    (b"\0\0\0\x01Bud1", FileKind::other("a .DS_Store file", REMOVE)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind::other("an OLE file such as Thumbs.db", REMOVE)),
    (b"L\0\0\0\x01\x14\x02\0", FileKind::other("a Windows shortcut", "copy the image itself")),
    (b"PK\x03\x04", FileKind::other("a ZIP archive", UNPACK)),
    (b"PK\x05\x06", FileKind::other("an empty ZIP archive", REMOVE)),
    (b"\x1f\x8b", FileKind::other("a gzip file", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind::other("a 7z archive", UNPACK)),
    (b"Rar!\x1a\x07", FileKind::other("a RAR archive", UNPACK)),
    (b"\xfd7zXZ\0", FileKind::other("an xz file", UNPACK)),
    (b"BZh", FileKind::other("a bzip2 file", UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind::other("a Zstandard file", UNPACK)),
    (b"\x89HDF\r\n\x1a\n", FileKind::other("an HDF5 file", "export its images as PNG")),
    (b"\x93NUMPY", FileKind::other("a NumPy array", "save it as PNG")),
    (b"\x1aE\xdf\xa3", VIDEO),
    (b"\0\0\x01\xba", VIDEO),
    (b"FLV\x01", VIDEO),
];

impl FileKind {
    /// Number of bytes at the start of a file that suffice for [`detect`](Self::detect).
    pub const PREFIX: usize = 1024;

    const fn image(name: &'static str, format: ImageFormat) -> Self {
        Self {
            name,
            remedy: "",
            format: Some(format),
        }
    }

    const fn other(name: &'static str, remedy: &'static str) -> Self {
        Self {
            name,
            remedy,
            format: None,
        }
    }

    /// Detects the kind of a file from all of its bytes or at least its first [`PREFIX`](Self::PREFIX).
    ///
    /// A damaged image counts as an image. Camera raw images in TIFF files count as TIFF images.
    pub fn detect(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(Self::PREFIX)];
        let signature = SIGNATURES
            .iter()
            .find(|(first, _)| start.starts_with(first));
        if let Some(&(_, kind)) = signature {
            return kind;
        }
        match start {
            [] => Self::other("an empty file", REPEAT),
            [b'R', b'I', b'F', b'F', _, _, _, _, rest @ ..] => riff(rest),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => iso_media(start),
            [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() => {
                Self::image("a PNM image", ImageFormat::Pnm)
            }
            [b'P', b'f' | b'F', b'\n', ..] => Self::other("a PFM image", TO_PNG),
            [b'B', b'M', rest @ ..] if !is_text(rest) => {
                Self::image("a BMP image", ImageFormat::Bmp)
            }
            _ if start.get(257..262) == Some(b"ustar") => Self::other("a tar archive", UNPACK),
            _ if bytes.iter().all(|&byte| byte == 0) => {
                Self::other("a file of zero bytes only", REPEAT)
            }
            _ if is_text(start) => text(start),
            _ => UNKNOWN,
        }
    }

    /// The kind without an article, such as `HEIC image`.
    pub fn name(self) -> &'static str {
        self.name
            .split_once(' ')
            .map_or(self.name, |(_, name)| name)
    }

    /// The format, if images of this kind are supported.
    pub fn format(self) -> Option<ImageFormat> {
        self.format
    }

    /// Returns whether the file is an image, in a supported format or in another.
    pub fn is_image(self) -> bool {
        self.name.ends_with(" image")
    }

    /// The step that makes the file usable as an image, such as `convert it to JPEG`.
    /// Empty for supported images.
    pub fn remedy(self) -> &'static str {
        self.remedy
    }

    /// Why the file cannot be decoded, such as `a HEIC image, which is not supported`.
    pub fn fact(self) -> String {
        match self {
            UNKNOWN => self.name.into(),
            _ if self.is_image() => format!("{self}, which is not supported"),
            _ => format!("{self}, not an image"),
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The kind of a RIFF file. `rest` begins with the form type.
fn riff(rest: &[u8]) -> FileKind {
    match rest {
        [b'W', b'E', b'B', b'P', ..] => FileKind::image("a WebP image", ImageFormat::WebP),
        [b'A', b'V', b'I', b' ', ..] => VIDEO,
        [b'W', b'A', b'V', b'E', ..] => FileKind::other("a sound file", REMOVE),
        _ => UNKNOWN,
    }
}

/// The kind of an ISO base media file, from the brands in its first box.
fn iso_media(start: &[u8]) -> FileKind {
    let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
    let end = length.clamp(8, start.len());
    // The major brand, the minor version, and compatible brands.
    let mut brands = start[8..end].chunks_exact(4);
    let heif: [&[u8]; 9] = [
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf",
    ];
    if brands
        .clone()
        .any(|brand| brand == b"avif" || brand == b"avis")
    {
        AVIF
    } else if brands.clone().any(|brand| heif.contains(&brand)) {
        HEIC
    } else if brands.any(|brand| brand == b"crx ") {
        CAMERA_RAW
    } else {
        VIDEO
    }
}

/// The kind of a text file.
fn text(start: &[u8]) -> FileKind {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = String::from_utf8_lossy(start.trim_ascii_start()).to_ascii_lowercase();
    match text.as_bytes().first() {
        Some(b'<') => {
            let html = ["<!doctype html", "<html", "<head", "<body", "<script"];
            let html = html.iter().filter_map(|tag| text.find(tag)).min();
            match (text.find("<svg"), html) {
                (Some(svg), html) if html.is_none_or(|html| svg < html) => {
                    FileKind::other("an SVG image", TO_PNG)
                }
                (_, Some(_)) => FileKind::other("an HTML page", "download the image again"),
                _ => FileKind::other("an XML file", REPLACE),
            }
        }
        Some(b'{' | b'[') => FileKind::other("a JSON file", REPLACE),
        _ => TEXT,
    }
}

/// Whether the bytes are text in UTF-8, or in UTF-16 with a byte order mark.
///
/// Text in UTF-8 has no control characters other than ASCII white space. Its last character may be
/// incomplete.
fn is_text(start: &[u8]) -> bool {
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return true;
    }
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_control() || c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_what_they_contain() {
        let tar = [&[b'x'; 100][..], &[0; 157], b"ustar\0"].concat();
        for (bytes, name) in [
            (&b""[..], "an empty file"),
            (&[0; 4096], "a file of zero bytes only"),
            (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0miafheic", "a HEIC image"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "an AVIF image"),
            (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "an AVIF image"),
            (
                b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
                "a camera raw image",
            ),
            (b"\0\0\0\x18ftypisom\0\0\0\x01mp42avif", "an AVIF image"),
            (b"\0\0\0\x14ftypisom\0\0\0\x01mp42avif", "a video"),
            (b"\xff\xff\xff\xffftyp", "a video"),
            (b"II*\0\x10\0\0\0CR\x02\0", "a camera raw image"),
            (b"II*\0\x08\0\0\0\x01\0", "a TIFF image"),
            (b"MM\0+\0\x08\0\0", "a TIFF image"),
            (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
            (b"RIFF\x10\0\0\0AVI LIST", "a video"),
            (b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0", "a BMP image"),
            (b"BMW and other brands", "a text file"),
            (b"P5 2 2 255\n", "a PNM image"),
            (b"P500 is a product name", "a text file"),
            (b"\n  <!DOCTYPE html><svg/>", "an HTML page"),
            (b"\xef\xbb\xbf<html>", "an HTML page"),
            (b"<!-- saved from url --><HTML>", "an HTML page"),
            (b"<?xml version='1.0'?><svg xmlns='x'>", "an SVG image"),
            (b"<?xml version='1.0'?><Error/>", "an XML file"),
            (b"{\"error\": \"rate limit\"}", "a JSON file"),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "a Git LFS pointer",
            ),
            (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "an AppleDouble file"),
            (b"PK\x03\x04\x14", "a ZIP archive"),
            (b"%PDF-1.7", "a PDF document"),
            (b"GIF89a", "a GIF image"),
            // The last character is truncated.
            (b"gr\xc3\xbc\xc3", "a text file"),
            (b"gr\xc3\xfc\xc3", "a file in an unknown format"),
            (&tar, "a tar archive"),
        ] {
            let kind = FileKind::detect(bytes);
            assert_eq!(kind.to_string(), name, "{bytes:?}");
            assert_eq!(kind.remedy().is_empty(), kind.format().is_some(), "{name}");
        }
        assert_eq!(FileKind::detect(b"GIF89a").name(), "GIF image");
    }
}
