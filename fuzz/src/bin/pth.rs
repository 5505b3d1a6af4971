//! Loads a PyTorch state dict. An input that begins like a zip archive is a whole file. Any other
//! input replaces the pickle in a valid file, because the checksums in an archive would reject most
//! changes of its pickle.
#![no_main]

use std::io::{self, Cursor, Write as _};

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vgg::{Head, VggConfig};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// A state dict whose pickle is replaced.
const PLAIN: &[u8] = include_bytes!("../../../crates/vgg/tests/pth/plain.pth");

/// An archive like [`PLAIN`] with another pickle.
fn with_pickle(pickle: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = ZipArchive::new(Cursor::new(PLAIN))?;
    let mut changed = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        changed.start_file(&name, options)?;
        if name.ends_with("/data.pkl") {
            changed.write_all(pickle)?;
        } else {
            io::copy(&mut entry, &mut changed)?;
        }
    }
    Ok(changed.finish()?.into_inner())
}

fuzz_target!(|data: &[u8]| {
    // The network whose weights the fixtures contain.
    let config = VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3);
    let path = match data.starts_with(b"PK") {
        true => fuzz::write("weights.pth", data),
        false => fuzz::write("weights.pth", &with_pickle(data).expect("an archive")),
    };
    if let Ok(loaded) = vgg::load_pretrained(&path, &config, Head::Keep, 0, &Device::Cpu) {
        // The network is complete, even if the file contains only some of its tensors.
        for (name, shape) in config.tensor_shapes().expect("a valid network") {
            assert_eq!(loaded.tensors[&name].dims(), shape, "{name}");
        }
    }
});
