//! Decodes an image, one in 16 with the limits that training uses, and the others with a limit of 2²⁰
//! pixels: a file of a few hundred bytes can declare an image that takes seconds to decode.
//!
//! `dataset` converts panics of other crates' decoders to errors. So only panics in `dataset` itself, and
//! those that it does not catch, end the process.
#![no_main]

use dataset::DecodeOptions;
use dataset::decode::decode_bytes;
use libfuzzer_sys::fuzz_target;

/// Replaces the panic hook of libFuzzer, which aborts at every panic.
fn abort_at_own_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location();
        if location.is_some_and(|location| location.file().contains("crates/dataset")) {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

fuzz_target!(init: abort_at_own_panics(), |data: &[u8]| {
    let mut options = DecodeOptions::default();
    if !data.len().is_multiple_of(16) {
        options = options.max_pixels(1 << 20);
    }
    let _ = decode_bytes(data, "fuzz", &options, image::RgbImage::default());
});
