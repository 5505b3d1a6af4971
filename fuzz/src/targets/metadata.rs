//! Parses metadata, from a model file without tensors.

use std::fs;
use std::path::{Path, PathBuf};

use super::Target;
use super::weights::{description, tiny};

pub(super) struct MetadataTarget {
    file: PathBuf,
}

/// Metadata keys. An input has one line for each key, with its value.
const KEYS: [&str; 6] = [
    "config",
    "classes",
    "mean",
    "std",
    "input_size",
    "architecture",
];

impl MetadataTarget {
    pub(super) fn new(scratch: &Path) -> Self {
        Self {
            file: scratch.join("metadata.safetensors"),
        }
    }
}

impl Target for MetadataTarget {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let small = description();
        let large = vgg::VggConfig::vgg16(2);
        [small.config, large, tiny()]
            .map(|config| {
                let config =
                    serde_json::to_string(&config).expect("a configuration can be serialized");
                let classes = r#"["ants","bees"]"#;
                let (mean, std) = ("[0.485,0.456,0.406]", "[0.229,0.224,0.225]");
                [&config, classes, mean, std, "224", "vgg16"]
                    .join("\n")
                    .into_bytes()
            })
            .to_vec()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"{\"conv\":64}",
            b"\"pool\"",
            b"\"hidden\":",
            b"\"avgpool\":",
            b"\"classes\":",
            b"\"input_size\":",
            b"\"features\":[",
            b"\"architecture\":\"",
            b"\"ants\",",
            b"0.5,",
            b"\n",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let text = String::from_utf8_lossy(input);
        let strings: serde_json::Map<_, _> = KEYS
            .into_iter()
            .zip(text.split('\n'))
            .map(|(key, value)| (key.to_string(), value.into()))
            .collect();
        let header = serde_json::json!({ "__metadata__": strings }).to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&self.file, [&length[..], header.as_bytes()].concat())
            .expect("the temporary directory can be written");
        match vgg::read_metadata(&self.file) {
            Ok(Some(metadata)) => {
                // Accepted metadata describes a network of limited size, so this must not fail or
                // overflow.
                let shapes = metadata
                    .config
                    .tensor_shapes()
                    .expect("accepted metadata is valid");
                let sizes = shapes
                    .iter()
                    .map(|(_, shape)| shape.iter().product::<usize>());
                assert!(sizes.sum::<usize>() <= 250_000_000);
                vgg::Summary::new(&metadata.config).expect("accepted metadata is valid");
                assert!(metadata.std.iter().all(|&std| std > 0.0 && std.is_finite()));
                true
            }
            _ => false,
        }
    }
}
