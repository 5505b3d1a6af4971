//! Decodes an image with the limits that training uses.
//!
//! Panics inside decoders become errors, so the panic hook of libFuzzer, which aborts, is removed. Other
//! panics end the process.
#![no_main]

use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| {
    let options = DecodeOptions::default();
    let _ = decode_bytes(data, "fuzz", &options, image::RgbImage::default());
});
