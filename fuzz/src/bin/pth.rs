//! Loads a PyTorch state dict: a whole file, or one byte with the index of a fixture and a pickle
//! that replaces the fixture's. The checksums in an archive would reject most other changes.
#![no_main]

use std::io::{Cursor, Read as _, Write as _};
use std::sync::LazyLock;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vgg::{Head, VggConfig};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The entries of each fixture that is an archive: name and content.
static ARCHIVES: LazyLock<Vec<Vec<(String, Vec<u8>)>>> = LazyLock::new(|| {
    let fixtures = fuzz::fixtures("crates/vgg/tests/pth");
    fixtures
        .into_iter()
        .filter_map(|(_, bytes)| entries(bytes).ok())
        .collect()
});

fn entries(bytes: Vec<u8>) -> zip::result::ZipResult<Vec<(String, Vec<u8>)>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let read = |index| {
        let mut entry = archive.by_index(index)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        Ok((entry.name()?.into_owned(), bytes))
    };
    (0..archive.len()).map(read).collect()
}

fn with_pickle(entries: &[(String, Vec<u8>)], pickle: &[u8]) -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let bytes = if name.ends_with("/data.pkl") {
            pickle
        } else {
            bytes
        };
        zip.start_file(name.as_str(), stored).expect("a valid name");
        zip.write_all(bytes).expect("memory can be written");
    }
    zip.finish().expect("memory can be written").into_inner()
}

fn seeds() {
    for (name, bytes) in fuzz::fixtures("crates/vgg/tests/pth") {
        fuzz::seed(&name, &bytes);
    }
    for (index, entries) in (0u8..).zip(ARCHIVES.iter()) {
        for (_, pickle) in entries
            .iter()
            .filter(|(name, _)| name.ends_with("/data.pkl"))
        {
            fuzz::seed(
                &format!("pickle-{index}"),
                &[&[index], &pickle[..]].concat(),
            );
        }
    }
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    // The network whose weights the fixtures contain.
    let config = VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3);
    let archive = data.first().and_then(|&index| ARCHIVES.get(usize::from(index)));
    let bytes = archive.map_or_else(|| data.to_vec(), |entries| with_pickle(entries, &data[1..]));
    let path = fuzz::write("weights.pth", &bytes);
    if let Ok(loaded) = vgg::load_pretrained(&path, &config, Head::Keep, 0, &Device::Cpu) {
        // The network is complete, even if the file contains only some of its tensors.
        for (name, shape) in config.tensor_shapes().expect("a valid network") {
            assert_eq!(loaded.tensors[&name].dims(), shape, "{name}");
        }
    }
});
