//! Detects the format of files that are not weights files from their first bytes, so that errors
//! can name it.

/// Number of bytes at the start of a file that callers pass for detection.
pub(crate) const PREFIX_LENGTH: usize = 512;

const CONVERT: &str = "save the weights of the original model in Python: torch.save(model.state_dict(), \"weights.pth\")";
const USE_ANOTHER: &str = "use a safetensors file or a PyTorch state dict";

/// First bytes of each format, its name with an article, and a help text.
const SIGNATURES: [(&[u8], &str, &str); 8] = [
    (b"\x89PNG\r\n", "a PNG image", USE_ANOTHER),
    (b"\xff\xd8\xff", "a JPEG image", USE_ANOTHER),
    (b"GIF8", "a GIF image", USE_ANOTHER),
    (b"II*\0", "a TIFF image", USE_ANOTHER),
    (b"MM\0*", "a TIFF image", USE_ANOTHER),
    (b"\x89HDF\r\n", "an HDF5 file", CONVERT),
    (b"\x1f\x8b", "a gzip file", "decompress it first"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer",
        "download the content with `git lfs pull`",
    ),
];

/// Returns the format of a file with these first bytes, and a help text.
pub(crate) fn format(start: &[u8]) -> (&'static str, &'static str) {
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
        // An ONNX file is a protobuf message. Its field 1 is `ir_version`, a small number, followed
        // by `producer_name`, `producer_version` or `graph`.
        [0x08, 1..=32, 0x12 | 0x1a | 0x3a, ..] => ("an ONNX file", CONVERT),
        _ if is_text(start) => {
            let lower = start.trim_ascii_start().to_ascii_lowercase();
            if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
                ("a web page", "download the file itself")
            } else {
                ("a text file", USE_ANOTHER)
            }
        }
        _ => ("in an unknown format", USE_ANOTHER),
    }
}

/// Whether the bytes are UTF-8 without control characters other than ASCII white space, and contain
/// at least one complete character. The last character may be incomplete.
pub(crate) fn is_text(start: &[u8]) -> bool {
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
            (b"\x08\x08\x12\x07pytorch", "an ONNX file"),
            (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"no", "a text file"),
            // The last character is truncated.
            (b"gr\xc3\xbc\xc3", "a text file"),
            (b"gr\xc3\xfc\xc3", "in an unknown format"),
            (b"a\0b", "in an unknown format"),
        ] {
            assert_eq!(format(start).0, expected, "{start:?}");
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00";
        assert!(format(pointer).1.contains("git lfs pull"));
    }
}
