//! Loads a PyTorch state dict. An input that begins like a zip archive is a whole file. Any other
//! input replaces the pickle in a valid file, because the checksums in an archive would reject most
//! changes of its pickle.
#![no_main]

use std::io::{Cursor, Read as _, Write as _};

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vgg::{Head, VggConfig};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// A state dict whose pickle is replaced.
const PLAIN: &[u8] = include_bytes!("../../../crates/vgg/tests/pth/plain.pth");

/// The pickle of [`PLAIN`], and an archive with `pickle` in its place.
fn replace(pickle: &[u8]) -> zip::result::ZipResult<(Vec<u8>, Vec<u8>)> {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = ZipArchive::new(Cursor::new(PLAIN))?;
    let mut changed = ZipWriter::new(Cursor::new(Vec::new()));
    let mut original = Vec::new();
    for index in 0..archive.len() {
        let (mut entry, mut bytes) = (archive.by_index(index)?, Vec::new());
        entry.read_to_end(&mut bytes)?;
        changed.start_file(entry.name()?.into_owned(), options)?;
        if entry.name()?.ends_with("/data.pkl") {
            original = std::mem::replace(&mut bytes, pickle.to_vec());
        }
        changed.write_all(&bytes)?;
    }
    Ok((original, changed.finish()?.into_inner()))
}

fn seeds() {
    fuzz::seed_files("crates/vgg/tests/pth");
    fuzz::seed("pickle", &replace(&[]).expect("an archive").0);
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    // The network whose weights the fixtures contain.
    let config = VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3);
    let path = match data.starts_with(b"PK") {
        true => fuzz::write("weights.pth", data),
        false => fuzz::write("weights.pth", &replace(data).expect("an archive").1),
    };
    if let Ok(loaded) = vgg::load_pretrained(&path, &config, Head::Keep, 0, &Device::Cpu) {
        // The network is complete, even if the file contains only some of its tensors.
        for (name, shape) in config.tensor_shapes().expect("a valid network") {
            assert_eq!(loaded.tensors[&name].dims(), shape, "{name}");
        }
    }
});
