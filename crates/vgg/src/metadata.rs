//! What a model file says about itself: all that prediction needs beside the weights.
//!
//! It stands as strings in the `__metadata__` of the safetensors header: `format` (`pt`), `architecture`,
//! `config` and `classes` (JSON), `input_size`, `mean`, `std`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::VggConfig;

/// The largest input size that a file may ask for; a larger one is taken for damage.
const LARGEST_INPUT: usize = 4096;

/// A network, its classes and how its pictures are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The network; its `classes` is the length of `classes`.
    pub config: VggConfig,
    /// The names of the classes, by index.
    pub classes: Vec<String>,
    /// Mean of the red, green and blue values (0 to 1) that is subtracted.
    pub mean: [f32; 3],
    /// Their deviation, by which the difference is divided.
    pub std: [f32; 3],
}

impl Metadata {
    /// As the strings of a header, by key.
    pub(crate) fn to_strings(&self) -> BTreeMap<String, String> {
        [
            ("format", "pt".into()),
            ("architecture", self.config.architecture.clone()),
            ("config", json(&self.config)),
            ("classes", json(&self.classes)),
            ("input_size", self.config.input_size.to_string()),
            ("mean", json(&self.mean)),
            ("std", json(&self.std)),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into()
    }

    /// From the strings of a header; `None` if there is no `config`, as in files of others.
    ///
    /// Errors: what is wrong, in words.
    pub(crate) fn from_strings(strings: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        if !strings.contains_key("config") {
            return Ok(None);
        }
        let metadata = Self {
            config: parse(strings, "config")?,
            classes: parse(strings, "classes")?,
            mean: parse(strings, "mean")?,
            std: parse(strings, "std")?,
        };
        metadata.check()?;
        Ok(Some(metadata))
    }

    /// Whether the parts agree and are within reason.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (config, classes) = (&self.config, &self.classes);
        config.parameters().map_err(|error| error.to_string())?;
        if classes.len() != config.classes {
            return Err(format!(
                "its metadata has a class list of length {} for a network of {}",
                classes.len(),
                config.classes
            ));
        }
        let mut names: Vec<&str> = classes.iter().map(String::as_str).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("its metadata names the class `{}` twice", twice[0]));
        }
        if config.input_size < config.smallest_input() || config.input_size > LARGEST_INPUT {
            return Err(format!(
                "its metadata asks for pictures of {0}x{0} pixels; {1} to {LARGEST_INPUT} make sense",
                config.input_size,
                config.smallest_input()
            ));
        }
        let sound = |values: &[f32; 3]| values.iter().all(|value| value.is_finite());
        if !sound(&self.mean) || !sound(&self.std) || self.std.iter().any(|&std| std <= 0.0) {
            return Err(format!(
                "its metadata normalises by mean {:?} and std {:?}",
                self.mean, self.std
            ));
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(strings: &BTreeMap<String, String>, key: &str) -> Result<T, String> {
    let text = strings
        .get(key)
        .ok_or_else(|| format!("its metadata lacks `{key}`"))?;
    serde_json::from_str(text).map_err(|error| format!("its metadata's `{key}`: {error}"))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always becomes JSON")
}
