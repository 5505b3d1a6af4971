//! Creates the invalid images, weights and models for the cases of `docs/errors.md`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use vgg::VggConfig;

use crate::harness::{TestDir, train_args};

/// A PNG with the given size, bit depth and color type in its header, but without pixel data.
pub fn png(width: u32, height: u32, bits: u8, color_type: u8) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([bits, color_type, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(&header);
    bytes.extend(crc32(&header).to_be_bytes());
    // An empty zlib stream.
    let data = b"IDAT\x78\x9c\x03\0\0\0\0\x01";
    bytes.extend(8u32.to_be_bytes());
    bytes.extend(data);
    bytes.extend(crc32(data).to_be_bytes());
    bytes
}

/// CRC-32 of the type and the data of a PNG chunk, computed bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The first half of a JPEG.
pub fn half_a_jpeg() -> Vec<u8> {
    let mut bytes = jpeg();
    bytes.truncate(bytes.len() / 2);
    bytes
}

/// A JPEG with a header of arithmetic coding.
pub fn arithmetic_jpeg() -> Vec<u8> {
    let mut bytes = jpeg();
    let frame = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]);
    bytes[frame.unwrap() + 1] = 0xC9;
    bytes
}

/// A JPEG that repeats its scan.
pub fn jpeg_with_two_scans() -> Vec<u8> {
    let bytes = jpeg();
    let scan = bytes.windows(2).position(|marker| marker == [0xFF, 0xDA]);
    let scan = &bytes[scan.unwrap()..];
    [&bytes[..bytes.len() - 2], scan].concat()
}

fn jpeg() -> Vec<u8> {
    let image = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 3, y as u8 * 2, 77]));
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90);
    image.write_with_encoder(encoder).unwrap();
    bytes
}

/// A safetensors file with the given header, followed by `data` zero bytes.
pub fn weights(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The id of the run that [`run`] writes.
pub const RUN: &str = "00112233445566778899aabbccddeeff";

/// Writes the marker of the run directory `run`, with the given checkpoint format.
pub fn run(dir: &TestDir, format: u32) {
    let version = version(format);
    let text = format!(
        "id = \"{RUN}\"\nwaggle = \"{version}\"\ncheckpoint_format = {format}\nfinished = false\n"
    );
    dir.write("run/run.toml", text.as_bytes());
}

/// A checkpoint of the run with the id `run`, with a valid checksum but without progress and tensors.
pub fn checkpoint(format: u32, run: &str) -> Vec<u8> {
    let strings =
        serde_json::json!({ "format": format.to_string(), "waggle": version(format), "id": run });
    let checksum = serde_json::json!({ "dtype": "U8", "shape": [32], "data_offsets": [0, 32] });
    let header = serde_json::json!({ "__metadata__": strings, "~sha256": checksum });
    let mut bytes = weights(&header.to_string(), 0);
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    bytes
}

/// A version of waggle that writes the given checkpoint format.
fn version(format: u32) -> &'static str {
    if format == 1 {
        env!("CARGO_PKG_VERSION")
    } else {
        "9.0.0"
    }
}

/// Writes the convolutional layers of an architecture as zeros, without metadata. The file is sparse,
/// so it takes almost no disk space.
pub fn zeros_of(architecture: &str, path: &Path) {
    let config = VggConfig::named(architecture, 1000).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in config.tensor_shapes().unwrap() {
        if name.starts_with("features.") {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            let tensor =
                serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
            header.insert(name, tensor);
        }
    }
    let header = serde_json::Value::from(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&weights(&header, 0)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length + end as u64).unwrap();
}

/// Renames a tensor in the header of a safetensors file. Both names must have the same length. Only
/// the first 64 KiB are read, because the tensor data may be large.
pub fn rename_in_place(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut start = Vec::new();
    (&mut file).take(1 << 16).read_to_end(&mut start).unwrap();
    let position = start
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    file.seek(SeekFrom::Start(
        position.expect("the header contains the name") as u64,
    ))
    .unwrap();
    file.write_all(to.as_bytes()).unwrap();
}

/// Replaces the first `from` with `to` in the metadata value `key` of `model.safetensors`.
pub fn change_model(dir: &TestDir, key: &str, from: &str, to: &str) {
    change_metadata(dir, |strings| {
        let changed = strings[key].replacen(from, to, 1);
        assert_ne!(
            changed, strings[key],
            "{from} is not in {key}: {}",
            strings[key]
        );
        strings.insert(key.to_string(), changed);
    });
}

/// Sets the temperature in the metadata of `model.safetensors`.
pub fn set_temperature(dir: &TestDir, temperature: &str) {
    change_metadata(dir, |strings| {
        strings.insert("temperature".to_string(), temperature.to_string());
    });
}

fn change_metadata(dir: &TestDir, change: impl FnOnce(&mut HashMap<String, String>)) {
    let bytes = dir.read("model.safetensors");
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut strings = header.metadata().clone().expect("a model has metadata");
    change(&mut strings);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let bytes = safetensors::serialize(tensors.tensors(), Some(strings)).unwrap();
    dir.write("model.safetensors", &bytes);
}

/// Gives each tensor in `tiny.safetensors` the name and the dtype that `change` returns for its name.
/// The dtype must have the size of the old one, 4 bytes.
pub fn change_weights(dir: &TestDir, change: impl Fn(&str) -> (String, Dtype)) {
    let bytes = dir.read("tiny.safetensors");
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors();
    let changed = tensors.iter().map(|(name, tensor)| {
        let (name, dtype) = change(name);
        let view = TensorView::new(dtype, tensor.shape().to_vec(), tensor.data());
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(changed, header.metadata().clone()).unwrap();
    dir.write("tiny.safetensors", &bytes);
}

/// Returns a TIFF image in Lab color.
pub fn lab_tiff() -> Vec<u8> {
    // Width, height, bits, photometric interpretation, offset of the strip, samples, rows, length.
    let entries = [
        (256, 1),
        (257, 1),
        (258, 8),
        (262, 8),
        (273, 8),
        (277, 3),
        (278, 1),
        (279, 3),
    ];
    let mut file = b"II*\0\x0c\0\0\0abc\0".to_vec();
    file.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        // The type is LONG.
        for field in [tag | 4 << 16, 1, value] {
            file.extend_from_slice(&u32::to_le_bytes(field));
        }
    }
    file.extend_from_slice(&[0; 4]);
    file
}

/// Copies a file that PyTorch wrote from the tests of the crate `vgg`.
pub fn pth(dir: &TestDir, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vgg/tests/pth");
    std::fs::copy(folder.join(name), dir.path(name)).unwrap();
}

/// Trains the run `run` for two epochs.
pub fn finished_run(dir: &TestDir) {
    dir.succeeds(&train_args(["1", "1"], "8", &[&["--out", "run"]]));
}
