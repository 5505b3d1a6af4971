//! Decodes an image with the limits that training uses.
#![no_main]

use std::path::Path;

use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use image::RgbImage;
use libfuzzer_sys::fuzz_target;

fn seeds() {
    for (name, bytes) in fuzz::fixtures("crates/dataset/tests/golden/decode") {
        fuzz::seed(&name, &bytes);
    }
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    let options = DecodeOptions::default();
    let _ = decode_bytes(data, Path::new("fuzz"), &options, RgbImage::default());
});
