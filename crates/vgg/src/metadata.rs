//! Metadata in a model file: everything that prediction needs in addition to the weights.
//!
//! The `__metadata__` of the safetensors header stores it as strings: `format` (`pt`),
//! `architecture`, `input_size`, `temperature`, and, as JSON, `config`, `classes`, `mean` and `std`. A
//! file without `temperature` has the temperature 1.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::VggConfig;
use crate::memory::MAX_IMAGE_BYTES;

/// Maximum input size in pixels.
const MAX_INPUT_SIZE: usize = 4096;
/// Range of temperatures. At its ends, softmax is nearly one-hot or nearly uniform for usual logits.
const TEMPERATURES: RangeInclusive<f64> = 0.01..=100.0;

/// The configuration of a network, its classes, the normalization of its input, and the calibration
/// of its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Configuration of the network. `config.classes` is the length of `classes`.
    pub config: VggConfig,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// Mean of the red, green and blue channels for pixel values from 0 to 1. The network input is
    /// (pixel − mean) / std.
    pub mean: [f32; 3],
    /// Standard deviation of the red, green and blue channels.
    pub std: [f32; 3],
    /// The temperature that calibrates the probabilities, `softmax(logits / temperature)`, from 0.01
    /// to 100. 1 if the model is not calibrated.
    pub temperature: f64,
}

impl Metadata {
    /// Converts the metadata to strings for a safetensors header.
    pub(crate) fn to_strings(&self) -> BTreeMap<String, String> {
        let mut strings: BTreeMap<String, String> = [
            ("format", "pt".into()),
            ("architecture", self.config.architecture.clone()),
            ("config", json(&self.config)),
            ("classes", json(&self.classes)),
            ("input_size", self.config.input_size.to_string()),
            ("mean", json(&self.mean)),
            ("std", json(&self.std)),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into();
        if self.temperature != 1.0 {
            strings.insert("temperature".into(), self.temperature.to_string());
        }
        strings
    }

    /// Parses the strings in a safetensors header. Returns `None` if there is no `config`, as in
    /// files written by other programs. If the metadata is invalid, the error states why.
    pub(crate) fn from_strings(strings: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        if !strings.contains_key("config") {
            return Ok(None);
        }
        let metadata = Self {
            config: parse(strings, "config")?,
            classes: parse(strings, "classes")?,
            mean: parse(strings, "mean")?,
            std: parse(strings, "std")?,
            temperature: match strings.get("temperature") {
                Some(text) => text
                    .parse()
                    .map_err(|error| format!("invalid `temperature` in the metadata: {error}"))?,
                None => 1.0,
            },
        };
        metadata.validate()?;
        Ok(Some(metadata))
    }

    /// Checks that the fields are valid and consistent. If they are not, the error states why.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (config, classes) = (&self.config, &self.classes);
        if config.architecture.chars().any(char::is_control) {
            return Err("the architecture in the metadata contains a control character".into());
        }
        config.tensor_shapes().map_err(|error| error.to_string())?;
        if classes.len() != config.classes {
            return Err(format!(
                "the metadata lists {} classes, but the network has {}",
                classes.len(),
                config.classes
            ));
        }
        let mut names: Vec<&str> = classes.iter().map(String::as_str).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the metadata lists the class `{}` twice", pair[0]));
        }
        if config.input_size < config.smallest_input() || config.input_size > MAX_INPUT_SIZE {
            return Err(format!(
                "the input size in the metadata is {}, but must be between {} and {MAX_INPUT_SIZE}",
                config.input_size,
                config.smallest_input()
            ));
        }
        let bytes = config.image_bytes();
        if bytes > MAX_IMAGE_BYTES {
            return Err(format!(
                "an image of {size}x{size} pixels needs about {} GiB of memory, but the limit is {} GiB",
                bytes.div_ceil(1 << 30),
                MAX_IMAGE_BYTES >> 30,
                size = config.input_size
            ));
        }
        let is_finite = |values: &[f32; 3]| values.iter().all(|value| value.is_finite());
        if !is_finite(&self.mean) || !is_finite(&self.std) || self.std.iter().any(|&std| std <= 0.0)
        {
            return Err(format!(
                "the normalization in the metadata is invalid: mean {:?}, std {:?}",
                self.mean, self.std
            ));
        }
        if !TEMPERATURES.contains(&self.temperature) {
            return Err(format!(
                "the temperature in the metadata is {:?}, but must be between {} and {}",
                self.temperature,
                TEMPERATURES.start(),
                TEMPERATURES.end()
            ));
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(strings: &BTreeMap<String, String>, key: &str) -> Result<T, String> {
    let text = strings
        .get(key)
        .ok_or_else(|| format!("the metadata has no `{key}`"))?;
    serde_json::from_str(text).map_err(|error| format!("invalid `{key}` in the metadata: {error}"))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always convert to JSON")
}
