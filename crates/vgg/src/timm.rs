//! Export to a folder that timm loads: `timm.create_model("local-dir:FOLDER", pretrained=True)`.
//!
//! `model.safetensors` uses timm's tensor names and stores the weights of the first two linear
//! layers as convolution weights. `config.json` describes the model as in a repository on the
//! Hugging Face Hub: architecture, classes and normalization.
//!
//! timm computes the same logits for 224-pixel images. For larger images timm applies the
//! classifier at every position and averages the result, whereas torchvision and this crate average
//! the features first.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde_json::json;

use crate::config::VggConfig;
use crate::error::Error;
use crate::file;
use crate::metadata::Metadata;
use crate::names;
use crate::save::check;

/// Names of the exported files.
pub const FILES: [&str; 2] = ["model.safetensors", "config.json"];

/// Writes both [`FILES`] to `folder`, which is created if it does not exist.
///
/// # Errors
///
/// Returns an error if timm does not have the architecture, if the metadata is invalid, if the
/// tensors do not exactly match the network, if the folder cannot be created, or if a file cannot
/// be written.
pub fn save(
    folder: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    let folder = folder.as_ref();
    let config = &metadata.config;
    let named = VggConfig::named(&config.architecture, config.classes);
    let is_in_timm = named.is_ok_and(|named| {
        let input_size = config.input_size;
        *config
            == VggConfig {
                input_size,
                ..named
            }
    });
    if !is_in_timm {
        return Err(Error::Export {
            path: folder.into(),
            reason: format!("timm has no architecture `{}`", config.architecture),
            help: Some("export the model as safetensors or ONNX"),
        });
    }
    check(folder, tensors, metadata)?;
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    let [weights, description] = FILES.map(|name| folder.join(name));
    let format = [("format".to_string(), "pt".to_string())].into();
    let tensors = to_timm(tensors, config)?;
    file::write_atomically(&weights, |out| {
        file::write_tensors(out, &weights, &tensors, &format)
    })?;
    file::write_atomically(&description, |out| {
        let text = format!("{:#}\n", describe(metadata));
        out.write_all(text.as_bytes())
            .map_err(|error| Error::io("write", &description, error))
    })
}

/// Converts tensors to timm's names and shapes.
///
/// # Errors
///
/// Returns an error if `classifier.0.weight` or `classifier.3.weight` cannot be reshaped to its
/// shape in timm. Other shapes are not checked.
pub fn to_timm(
    tensors: &BTreeMap<String, Tensor>,
    config: &VggConfig,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let rename = |(name, tensor): (&String, &Tensor)| {
        let (side, hidden) = (config.avgpool, config.hidden);
        let tensor = match name.as_str() {
            "classifier.0.weight" => tensor.reshape((hidden, (), side, side))?,
            "classifier.3.weight" => tensor.reshape((hidden, hidden, 1, 1))?,
            _ => tensor.clone(),
        };
        Ok((names::to_timm(name), tensor))
    };
    tensors.iter().map(rename).collect()
}

/// Returns the content of `config.json`, with the fields that timm writes for the Hugging Face Hub.
fn describe(metadata: &Metadata) -> serde_json::Value {
    let config = &metadata.config;
    let (size, classes) = (config.input_size, config.classes);
    json!({
        "architecture": config.architecture,
        "num_classes": classes,
        "num_features": config.hidden,
        "label_names": metadata.classes,
        "pretrained_cfg": {
            "tag": "waggle",
            "custom_load": false,
            "input_size": [3, size, size],
            "fixed_input_size": false,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
            "mean": shortest_f64(metadata.mean),
            "std": shortest_f64(metadata.std),
            "num_classes": classes,
            "pool_size": [config.avgpool, config.avgpool],
            "first_conv": "features.0",
            "classifier": "head.fc",
        },
    })
}

/// Converts each f32 to the f64 with the same shortest decimal representation: 0.485 instead of
/// 0.48500001430511475.
fn shortest_f64(values: [f32; 3]) -> [f64; 3] {
    values.map(|value| value.to_string().parse().unwrap_or(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_json_has_the_fields_of_timm() {
        let metadata = Metadata {
            config: VggConfig::named("vgg16_bn", 2).expect("a valid configuration"),
            classes: ["ants", "bees"].map(String::from).into(),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            temperature: 1.0,
        };
        let description = describe(&metadata);
        assert_eq!(description["architecture"], "vgg16_bn");
        assert_eq!(description["label_names"], json!(["ants", "bees"]));
        let cfg = &description["pretrained_cfg"];
        assert_eq!(cfg["input_size"], json!([3, 224, 224]));
        assert_eq!(cfg["mean"].to_string(), "[0.485,0.456,0.406]");
        assert_eq!(cfg["classifier"], "head.fc");
    }
}
