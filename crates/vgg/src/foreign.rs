//! What a file looks like that is in neither format of weights, from its first bytes.

/// How many bytes are looked at.
pub(crate) const START: usize = 512;

const CONVERT: &str = "save the weights in Python, from the network that it was made of: \
                       torch.save(model.state_dict(), \"weights.pth\")";
const ANOTHER: &str = "give the file that holds the weights";

/// First bytes, what they mean, and what to do.
const MAGIC: [(&[u8], &str, &str); 8] = [
    (b"\x89PNG\r\n", "a picture (PNG)", ANOTHER),
    (b"\xff\xd8\xff", "a picture (JPEG)", ANOTHER),
    (b"GIF8", "a picture (GIF)", ANOTHER),
    (b"II*\0", "a picture (TIFF)", ANOTHER),
    (b"MM\0*", "a picture (TIFF)", ANOTHER),
    (
        b"\x89HDF\r\n",
        "an HDF5 file, such as Keras writes",
        CONVERT,
    ),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (
        b"version https://git-lfs",
        "what Git LFS keeps in place of a file",
        "get the file itself with git lfs pull",
    ),
];

/// What a file that starts like this is, and what to do. For one that no safetensors file can start like.
pub(crate) fn kind(start: &[u8]) -> (&'static str, &'static str) {
    let known = MAGIC.iter().find(|(magic, ..)| start.starts_with(magic));
    if let Some(&(_, what, advice)) = known {
        return (what, advice);
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
        ] => ("a picture (WebP)", ANOTHER),
        // Protobuf: field 1, the version of the format, a small number; then the producer, which is a text, its
        // version or the graph.
        [0x08, 1..=32, 0x12 | 0x1a | 0x3a, ..] => ("an ONNX file", CONVERT),
        _ if is_text(start) => {
            let lower = start.trim_ascii_start().to_ascii_lowercase();
            if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
                ("a web page", "fetch the file itself")
            } else {
                ("text", ANOTHER)
            }
        }
        _ => ("of an unknown format", ANOTHER),
    }
}

/// Whether it is UTF-8, up to a character that the end cuts, without control characters but white space.
pub(crate) fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_shown = |c: char| !c.is_control() || c.is_ascii_whitespace();
    !text.is_empty() && text.chars().all(is_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_how_they_start() {
        for (start, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], "a picture (JPEG)"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "a picture (WebP)"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX file"),
            (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"no", "text"),
            // Cut in the middle of a character.
            (b"gr\xc3\xbc\xc3", "text"),
            (b"gr\xc3\xfc\xc3", "of an unknown format"),
            (b"a\0b", "of an unknown format"),
        ] {
            assert_eq!(kind(start).0, expected, "{start:?}");
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00";
        assert!(kind(pointer).1.contains("git lfs pull"));
    }
}
