//! Loads weights and models from safetensors files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use vgg::config::Unit;
use vgg::{Head, Metadata, VggConfig, names};

use super::Target;

pub(super) struct Weights {
    file: PathBuf,
    config: VggConfig,
}

impl Weights {
    pub(super) fn new(scratch: &Path) -> Self {
        Self {
            file: scratch.join("weights.safetensors"),
            config: tiny(),
        }
    }
}

/// A minimal network with every kind of layer.
pub(super) fn tiny() -> VggConfig {
    VggConfig {
        architecture: "tiny".into(),
        features: vec![Unit::Conv(2), Unit::Pool, Unit::Conv(3), Unit::Pool],
        batch_norm: false,
        avgpool: 1,
        hidden: 4,
        classes: 2,
        input_size: 32,
    }
}

/// Metadata of the minimal network.
pub(super) fn description() -> Metadata {
    Metadata {
        config: tiny(),
        classes: vec!["ants".into(), "bees".into()],
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

impl Target for Weights {
    fn name(&self) -> &'static str {
        "weights"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let tensors =
            vgg::init::from_scratch(&self.config, 1, &Device::Cpu).expect("the network is valid");
        vgg::save(&self.file, &tensors, &description())
            .expect("the temporary directory can be written");
        let model = fs::read(&self.file).expect("the file was just written");
        let mut seeds = vec![model];
        let mut add = |tensors: BTreeMap<String, Tensor>| {
            candle_core::safetensors::save(&tensors.into_iter().collect(), &self.file)
                .expect("the temporary directory can be written");
            seeds.push(fs::read(&self.file).expect("the file was just written"));
        };
        let timm = tensors
            .iter()
            .map(|(name, tensor)| (names::to_timm(name), tensor.clone()));
        add(timm.collect());
        let half = tensors.iter().map(|(name, tensor)| {
            let half = tensor
                .to_dtype(DType::BF16)
                .expect("f32 can be converted to bf16");
            (name.clone(), half)
        });
        add(half.collect());
        let features = tensors
            .iter()
            .filter(|(name, _)| name.starts_with("features"));
        add(features
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect());
        seeds
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"\"dtype\":\"F16\"",
            b"\"dtype\":\"F64\"",
            b"\"BF16\"",
            b"\"I64\"",
            b"\"U8\"",
            b"\"BOOL\"",
            b"\"shape\":[0]",
            b"\"shape\":[]",
            b"\"data_offsets\":[0,0]",
            b"\"__metadata__\":",
            b"features.0.weight",
            b"classifier.6.bias",
            b"pre_logits.fc1.weight",
            b"head.fc.weight",
            b"\"config\":",
            b"{\"conv\":1}",
            b"\"pool\"",
            b",1,1]",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        fs::write(&self.file, input).expect("the temporary directory can be written");
        let model = vgg::load_model(&self.file, &Device::Cpu);
        let config = match vgg::read_metadata(&self.file) {
            Ok(Some(metadata)) => metadata.config,
            _ => self.config.clone(),
        };
        let pretrained = vgg::load_pretrained(&self.file, &config, Head::Replace, 0, &Device::Cpu);
        if let Ok(model) = &model {
            // Accepted models describe a valid network.
            assert_eq!(model.metadata.classes.len(), model.metadata.config.classes);
            assert!(model.tensors.len() >= 8);
        }
        model.is_ok() || pretrained.is_ok()
    }
}
