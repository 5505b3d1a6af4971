//! Loads a model, and pretrained weights, from a safetensors file.
#![no_main]

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vgg::{Head, VggConfig};

fuzz_target!(|data: &[u8]| {
    let path = fuzz::write("weights.safetensors", data);
    if let Ok(model) = vgg::load_model(&path, &Device::Cpu) {
        assert_eq!(model.metadata.classes.len(), model.metadata.config.classes);
    }
    let config = match vgg::read_metadata(&path) {
        Ok(Some(metadata)) => metadata.config,
        _ => VggConfig::slim_vgg16([1; 5], 2, 1, 32, 2),
    };
    let _ = vgg::load_pretrained(&path, &config, Head::Replace, 0, &Device::Cpu);
});
