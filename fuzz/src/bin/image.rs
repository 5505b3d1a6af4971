//! Decodes an image with the limits that training uses.
#![no_main]

use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let options = DecodeOptions::default();
    let _ = decode_bytes(data, "fuzz", &options, image::RgbImage::default());
});
