//! Loads a model, and pretrained weights, from a safetensors file.
#![no_main]

use candle_core::{DType, Device};
use libfuzzer_sys::fuzz_target;
use vgg::{Head, Metadata, VggConfig};

/// A model without batch norm, as a model file and as weights in bf16 with timm's names.
fn seeds() {
    let config = VggConfig::slim_vgg16([1; 5], 2, 1, 32, 2);
    let tensors = vgg::init::from_scratch(&config, 1, &Device::Cpu).expect("a valid network");
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let classes = vec!["ants".into(), "bees".into()];
    let path = fuzz::path("seed");
    vgg::save(
        &path,
        &tensors,
        &Metadata {
            config,
            classes,
            mean,
            std,
        },
    )
    .expect("a file");
    fuzz::seed("model", &std::fs::read(&path).expect("a file"));
    let timm = tensors.iter().map(|(name, tensor)| {
        let half = tensor
            .to_dtype(DType::BF16)
            .expect("f32 can be converted to bf16");
        (vgg::names::to_timm(name), half)
    });
    candle_core::safetensors::save(&timm.collect(), &path).expect("a file");
    fuzz::seed("timm", &std::fs::read(&path).expect("a file"));
}

fuzz_target!(init: seeds(), |data: &[u8]| {
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
