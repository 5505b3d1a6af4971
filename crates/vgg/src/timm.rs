//! A model as a folder that timm reads: `timm.create_model("local-dir:FOLDER", pretrained=True)`.
//!
//! `model.safetensors` has timm's names, with the classifier as convolutions, and `config.json` what a repository
//! on the hub says: which network, its classes, and how its pictures are normalised.
//!
//! Both compute the same at the input size that the paper's networks were made for. On larger pictures timm
//! slides the classifier over them and averages, where torchvision and we average first.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::Tensor;
use serde_json::json;

use crate::config::VggConfig;
use crate::error::Error;
use crate::file;
use crate::metadata::Metadata;
use crate::names;

/// The files of the folder.
pub const FILES: [&str; 2] = ["model.safetensors", "config.json"];

/// Writes both files into `folder`, which is made if it is not there.
///
/// Errors: a network that timm has not; files that cannot be written.
pub fn save(
    folder: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    let wrong = |what: String| Error::Metadata {
        path: folder.into(),
        what,
    };
    metadata.check().map_err(wrong)?;
    let config = &metadata.config;
    let known = VggConfig::named(&config.architecture, config.classes);
    let known = known.is_ok_and(|known| {
        let size = config.input_size;
        *config
            == VggConfig {
                input_size: size,
                ..known
            }
    });
    if !known {
        return Err(wrong(format!(
            "timm has no {}, only {}; export it as safetensors or onnx",
            config.architecture,
            VggConfig::NAMES.join(", ")
        )));
    }
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    let [weights, about] = FILES.map(|name| folder.join(name));
    let format = [("format".to_string(), "pt".to_string())].into();
    file::write(&weights, &renamed(tensors, config)?, &format)?;
    file::atomically(&about, |out| {
        let text = format!("{:#}\n", describe(metadata));
        out.write_all(text.as_bytes())
            .map_err(|error| Error::io("write", &about, error))
    })
}

/// The tensors in timm's names and shapes.
///
/// Errors: candle's, for tensors that are not those of `config`.
pub fn renamed(
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
        Ok((names::timm(name), tensor))
    };
    tensors.iter().map(rename).collect()
}

/// `config.json`, as timm writes it for the hub.
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
            "mean": shortest(metadata.mean),
            "std": shortest(metadata.std),
            "num_classes": classes,
            "pool_size": [config.avgpool, config.avgpool],
            "first_conv": "features.0",
            "classifier": "head.fc",
        },
    })
}

/// As short as f32 is written: 0.485 and not 0.48500001430511475.
fn shortest(values: [f32; 3]) -> [f64; 3] {
    values.map(|value| value.to_string().parse().unwrap_or(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_timm_asks_for() {
        let metadata = Metadata {
            config: VggConfig::named("vgg16_bn", 2).expect("a network of the table"),
            classes: ["ants", "bees"].map(String::from).into(),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        let about = describe(&metadata);
        assert_eq!(about["architecture"], "vgg16_bn");
        assert_eq!(about["label_names"], json!(["ants", "bees"]));
        let cfg = &about["pretrained_cfg"];
        assert_eq!(cfg["input_size"], json!([3, 224, 224]));
        assert_eq!(cfg["mean"].to_string(), "[0.485,0.456,0.406]");
        assert_eq!(cfg["classifier"], "head.fc");
    }
}
