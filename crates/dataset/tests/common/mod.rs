//! Golden files, images and folders for the tests of this crate.

#![allow(dead_code)] // each test file uses only some of the functions

pub mod formats;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dataset::Sample;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// Returns the path of a golden file in `tests/golden`, or in the folder that the environment
/// variable `WAGGLE_GOLDEN` selects.
pub fn golden(name: &str) -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("WAGGLE_GOLDEN")
        .map_or_else(default, PathBuf::from)
        .join(name)
}

pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let read = candle_core::safetensors::load(path, &Device::Cpu);
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

pub fn json(path: &Path) -> serde_json::Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Converts a tensor of bytes of shape (height, width, 3) to an image.
pub fn image(tensor: &Tensor) -> RgbImage {
    let (height, width, channels) = tensor.dims3().unwrap();
    assert_eq!(channels, 3);
    let bytes = tensor.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    RgbImage::from_raw(width as u32, height as u32, bytes).unwrap()
}

/// Returns the mean and maximum absolute difference of two images, in levels of 255.
pub fn difference(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|&d| f64::from(d)).sum();
    (
        sum / differences.len() as f64,
        differences.into_iter().max().unwrap(),
    )
}

/// Returns the CRC-32 of `bytes`, the type and data of a PNG chunk.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Draws an image of waves and ramps that depends on `seed`.
pub fn pattern(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave =
            |a: u32, b: u32| 127.0 + 120.0 * ((x * a + y * b + seed * 37) as f32 / 23.0).sin();
        Rgb([
            wave(3, 1) as u8,
            wave(1, 2 + seed % 3) as u8,
            ((x * 5 + y * 3 + seed * 17) % 256) as u8,
        ])
    })
}

/// Encodes a TIFF with `data` at offset 8 and the given tags, all of the type LONG.
pub fn tiff(tags: &[(u32, Vec<u32>)], data: &[u8]) -> Vec<u8> {
    let directory = 8 + data.len() as u32;
    let mut file = [b"II*\0", &directory.to_le_bytes()[..], data].concat();
    file.extend_from_slice(&(tags.len() as u16).to_le_bytes());
    // The values that do not fit into the directory follow it.
    let (start, mut after) = (file.len() + 12 * tags.len() + 4, Vec::new());
    for (tag, values) in tags {
        let value = match values[..] {
            [value] => value,
            _ => (start + 4 * after.len()) as u32,
        };
        if values.len() > 1 {
            after.extend_from_slice(values);
        }
        for field in [tag | 4 << 16, values.len() as u32, value] {
            file.extend_from_slice(&field.to_le_bytes());
        }
    }
    file.extend_from_slice(&[0; 4]);
    file.extend(after.iter().flat_map(|value| value.to_le_bytes()));
    file
}

/// Creates a split with two classes and images of several sizes and formats. Returns its temporary
/// folder and its samples.
pub fn mixed_folder(images: u32) -> (TempDir, Vec<Sample>) {
    let folder = TempDir::new().unwrap();
    for index in 0..images {
        let class = folder
            .path()
            .join(if index % 3 == 0 { "ants" } else { "bees" });
        fs::create_dir_all(&class).unwrap();
        let extension = ["png", "jpg", "bmp", "webp", "ppm", "tif"][index as usize % 6];
        let image = pattern(40 + 7 * index % 60, 70 - 5 * index % 40, index);
        let path = class.join(format!("{index:03}.{extension}"));
        match extension {
            "tif" => {
                let tags = [
                    (256, image.width()),
                    (257, image.height()),
                    (258, 8), // bits
                    (262, 2), // RGB
                    (273, 8), // offset of the strip
                    (277, 3), // samples
                    (278, image.height()),
                    (279, image.as_raw().len() as u32),
                ];
                let tags = tags.map(|(tag, value)| (tag, vec![value]));
                fs::write(path, tiff(&tags, image.as_raw())).unwrap();
            }
            _ => image.save(path).unwrap(),
        }
    }
    let samples = dataset::ImageFolder::scan(folder.path())
        .unwrap()
        .samples()
        .to_vec();
    (folder, samples)
}
