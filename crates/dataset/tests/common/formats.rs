//! Generated files with Pillow's pixels, from `tests/formats`.

use std::path::Path;

use candle_core::Tensor;
use image::RgbImage;

/// The files of an archive whose names begin with `prefix`, as (name, contents, Pillow's pixels).
/// Files that are to be refused have no pixels.
pub fn cases(archive: &str, prefix: &str) -> Vec<(String, Vec<u8>, Option<RgbImage>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let tensors = super::tensors(&folder.join(archive));
    let bytes = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let cases: Vec<_> = tensors
        .iter()
        .filter_map(|(key, file)| Some((key.strip_suffix("/file")?, file)))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, file)| {
            let pixels = tensors.get(&format!("{name}/pillow")).map(super::image);
            (name.to_string(), bytes(file), pixels)
        })
        .collect();
    assert!(!cases.is_empty(), "no case begins with {prefix}");
    cases
}
