//! Generated files with Pillow's pixels, from `tests/formats`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
use image::RgbImage;

/// The files of an archive whose names begin with `prefix`, as (name, contents, Pillow's pixels).
/// Files that are to be refused have no pixels.
pub fn cases(archive: &str, prefix: &str) -> Vec<(String, Vec<u8>, Option<RgbImage>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let path = folder.join(format!("{archive}.safetensors.gz"));
    let mut archive = Vec::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_end(&mut archive)
        .unwrap();
    let tensors = candle_core::safetensors::load_buffer(&archive, &Device::Cpu).unwrap();
    let bytes = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let mut cases: Vec<_> = tensors
        .iter()
        .filter_map(|(key, file)| Some((key.strip_suffix("/file")?, file)))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, file)| {
            let pixels = tensors.get(&format!("{name}/pillow")).map(super::image);
            (name.to_string(), bytes(file), pixels)
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!cases.is_empty(), "no case begins with {prefix}");
    cases
}
