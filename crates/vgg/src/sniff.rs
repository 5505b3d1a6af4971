//! Detects the format of files that are not weights files from their first bytes, so that errors
//! can name it.

use std::path::Path;

use crate::error::Error;
use crate::python;

/// Number of bytes at the start of a file that callers pass for detection.
pub(crate) const PREFIX_LENGTH: usize = 512;

const USE_ANOTHER: &str = "use a safetensors file or a PyTorch state dict";
const NOT_PYTORCH: &str = "use weights from PyTorch: a safetensors file or a state dict";
const EXPORTED: &str =
    "use the model that it was exported from: a safetensors file or a PyTorch state dict";
const UNPACK: &str = "unpack it, and use a weights file in it";

const UNKNOWN: &str = "in an unknown format";

/// First bytes of each format, its name with an article, and a help text.
const SIGNATURES: [(&[u8], &str, &str); 18] = [
    (b"\x89PNG\r\n", "a PNG image", USE_ANOTHER),
    (b"\xff\xd8\xff", "a JPEG image", USE_ANOTHER),
    (b"GIF8", "a GIF image", USE_ANOTHER),
    (b"II*\0", "a TIFF image", USE_ANOTHER),
    (b"MM\0*", "a TIFF image", USE_ANOTHER),
    (b"%PDF-", "a PDF document", USE_ANOTHER),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes", NOT_PYTORCH),
    (b"\x93NUMPY", "a NumPy array", NOT_PYTORCH),
    (b"GGUF", "a GGUF file", NOT_PYTORCH),
    // A SavedModel is a protobuf message: its version, 1, and its graphs.
    (b"\x08\x01\x12", "a TensorFlow SavedModel", NOT_PYTORCH),
    (b"\x1f\x8b", "a gzip file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", UNPACK),
    (b"BZh", "a bzip2 file", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"PK\x05\x06", "an empty zip archive", USE_ANOTHER),
    (
        b"version https://git-lfs",
        "a Git LFS pointer",
        "download the content with `git lfs pull`",
    ),
];

/// Offset and magic bytes of a ustar header.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// The pickled magic number at the start of files of PyTorch before 1.6, after the protocol.
const LEGACY: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Returns the error for a file that begins with the bytes `start` and is not a weights file.
pub(crate) fn error(path: &Path, start: &[u8]) -> Error {
    let file = || python::quote(&path.to_string_lossy());
    let (format, help) = match start {
        [] => ("an empty file", "download or copy the file again".into()),
        [0x80, 2..=5, rest @ ..] if rest.starts_with(LEGACY) => return legacy_error(path),
        [0x80, 2..=5, ..] => {
            let load = format!("pickle.load(open({}, \"rb\"))", file());
            let tensors = format!("{{k: torch.as_tensor(v) for k, v in {load}.items()}}");
            ("a Python pickle", python::save(&tensors))
        }
        _ if start
            .get(TAR.0..)
            .is_some_and(|rest| rest.starts_with(TAR.1)) =>
        {
            // The first version of PyTorch wrote tar archives with these entries.
            match ["sys_info", "pickle", "storages", "tensors"]
                .iter()
                .any(|entry| start.starts_with(entry.as_bytes()))
            {
                true => return legacy_error(path),
                false => ("a tar archive", UNPACK.into()),
            }
        }
        _ => {
            let (format, help) = format(start);
            (format, help.into())
        }
    };
    Error::NotWeights {
        path: path.into(),
        format,
        help,
    }
}

fn legacy_error(path: &Path) -> Error {
    Error::NotStateDict {
        path: path.into(),
        reason: "it has the format of PyTorch before version 1.6".into(),
        help: python::save(&python::load(path)),
    }
}

/// Whether no format is recognized.
pub(crate) fn is_unknown(start: &[u8]) -> bool {
    format(start).0 == UNKNOWN
}

/// Returns the format of a file with these first bytes, and a help text.
fn format(start: &[u8]) -> (&'static str, &'static str) {
    let signature = SIGNATURES
        .iter()
        .find(|(bytes, ..)| start.starts_with(bytes));
    if let Some(&(_, format, help)) = signature {
        return (format, help);
    }
    match start {
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => ("a WebP image", USE_ANOTHER),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm' | b'a', ..] => {
            ("a HEIC or AVIF image or a video", USE_ANOTHER)
        }
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => ("a TensorFlow Lite model", NOT_PYTORCH),
        // An ONNX file is a protobuf message. Its field 1 is `ir_version`, a small number, followed
        // by `producer_name`, `producer_version` or `graph`.
        [0x08, 1..=32, 0x12 | 0x1a | 0x3a, ..] => ("an ONNX file", EXPORTED),
        _ if is_text(start) => {
            let lower = start.trim_ascii_start().to_ascii_lowercase();
            if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
                ("a web page", "download the file itself")
            } else if lower.starts_with(b"{") {
                ("a JSON file", USE_ANOTHER)
            } else {
                ("a text file", USE_ANOTHER)
            }
        }
        _ => (UNKNOWN, USE_ANOTHER),
    }
}

/// Whether the bytes are UTF-8 without control characters other than ASCII white space, and contain
/// at least one complete character. The last character may be incomplete.
fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    !text.is_empty() && text.chars().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_by_their_first_bytes() {
        for (start, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], "a JPEG image"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
            (b"\0\0\0\x1cftypheic", "a HEIC or AVIF image or a video"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX file"),
            (b"\x08\x01\x12\xa0\x02", "a TensorFlow SavedModel"),
            (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
            (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (b"\x93NUMPY\x01\0", "a NumPy array"),
            (b"\x80\x04\x95\x10", "a Python pickle"),
            (b"\x1f\x8b\x08\0", "a gzip file"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"{\"metadata\": {}}", "a JSON file"),
            (b"no", "a text file"),
            // The last character is truncated.
            (b"gr\xc3\xbc\xc3", "a text file"),
            (b"gr\xc3\xfc\xc3", "in an unknown format"),
            (b"a\0b", "in an unknown format"),
        ] {
            let Error::NotWeights { format, help, .. } = error("x".as_ref(), start) else {
                panic!("{start:?}");
            };
            assert_eq!(format, expected, "{start:?}");
            let is_pickle = format.contains("pickle");
            assert_eq!(help.contains("torch.save"), is_pickle, "{format}: {help}");
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00";
        assert!(format(pointer).1.contains("git lfs pull"));
    }
}
