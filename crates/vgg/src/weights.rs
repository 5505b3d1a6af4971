//! Loads weights and models from both formats of [`WeightsFile`].

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::config::VggConfig;
use crate::detect;
use crate::error::Error;
use crate::init;
use crate::matching::{self, Entries, HEAD, List, Matched};
use crate::metadata::Metadata;
use crate::select;
use crate::weights_file::WeightsFile;

/// Where each tensor of a loaded network comes from. Tensors have torchvision's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Names of the tensors loaded from the file.
    pub loaded: Vec<String>,
    /// Names of the newly initialized tensors.
    pub initialized: Vec<String>,
    /// Names of the head's tensors that the file contains in the right shape, but that were not
    /// loaded because of [`Head::Replace`]. They are also in `initialized`.
    pub replaced: Vec<String>,
    /// Tensors with the wrong shape in the file, as (name, shape in the file, shape in the
    /// network). They are also in `initialized`.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names of the tensors in `loaded` that were narrowed from float64 to float32.
    pub narrowed: Vec<String>,
    /// Names in the file of the first 20 tensors that do not belong to the network, such as those of
    /// a loss or an optimizer. If there are more, the last element is their number.
    pub unused: Vec<String>,
    /// The prefix of the network's tensors in the file, without the last dot: keys of dictionaries in
    /// a PyTorch file, or fields of a class. May be empty.
    pub key: String,
    /// The keys of other networks in the file, which `FILE#KEY` chooses. If there are more than 20,
    /// the last element is the number of others.
    pub other_keys: Vec<String>,
}

impl Report {
    /// Returns the layers with a newly initialized tensor, from input to output. Transfer learning
    /// trains them first.
    pub fn initialized_layers(&self) -> Vec<String> {
        let mut layers: Vec<String> = Vec::new();
        for name in &self.initialized {
            let layer = layer_of(name);
            if !layers.iter().any(|listed| listed == layer) {
                layers.push(layer.to_string());
            }
        }
        layers
    }
}

/// All tensors of a network, loaded or initialized.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The tensors as f32, by torchvision's name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where each tensor comes from.
    pub report: Report,
}

/// Treatment of the head (`classifier.6`) by [`load_pretrained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// Initializes a new head, as usual in transfer learning.
    Replace,
    /// Loads the head if the file contains it in the right shape. Use this for a model with the
    /// same classes.
    Keep,
}

/// Reads only the metadata of a model file. Returns `None` if the file has no metadata written by
/// this crate.
///
/// # Errors
///
/// Returns an error if the file cannot be read, is not a valid weights file, or has invalid
/// metadata.
pub fn read_metadata(path: impl AsRef<Path>) -> Result<Option<Metadata>, Error> {
    let path = path.as_ref();
    metadata_of(&WeightsFile::open(path)?, path)
}

fn metadata_of(file: &WeightsFile, path: &Path) -> Result<Option<Metadata>, Error> {
    Metadata::from_strings(&file.strings()).map_err(|reason| Error::Metadata {
        path: path.into(),
        reason,
    })
}

/// Loads pretrained weights for a network that may have other classes.
///
/// The file is safetensors or a PyTorch state dict, with tensor names from torchvision or timm, in
/// f32, f16, bf16 or f64, with or without a classifier. It must contain the whole backbone. A layer
/// of the classifier is initialized by [`init::linear_default`] if one of its tensors is missing from
/// the file or has another shape. With [`Head::Replace`], so is the head.
///
/// All names may have a prefix, and the file may contain other tensors. If it contains several
/// networks, the one with the usual name is loaded: `state_dict` and not `state_dict_ema`. `path` can
/// be `FILE#KEY` to choose another one; a file whose whole name is `path` takes precedence.
///
/// # Errors
///
/// Returns an error if the configuration is invalid, if the file cannot be read or is invalid, if it
/// contains several networks and none has a usual name, if its backbone does not match the
/// configuration, if it has other tensors in `features` or names that resemble those of missing
/// tensors, or if a tensor cannot be created on the device.
pub fn load_pretrained(
    path: impl AsRef<Path>,
    config: &VggConfig,
    head: Head,
    seed: u64,
    device: &Device,
) -> Result<Loaded, Error> {
    let path = path.as_ref();
    let mut file = WeightsFile::open(path)?;
    let shapes = config.tensor_shapes()?;
    let matched = match_features(path, config, &shapes, &file)?;
    let entries = matched.entries;
    let mut report = Report {
        key: matched.selection.prefix.key().into(),
        other_keys: select::listed(&matched.selection.others),
        unused: matched.unused.into_names(),
        ..Report::default()
    };
    let mut tensors = BTreeMap::new();
    let loadable = loadable_layers(&shapes, &entries, head, &mut report);
    for (name, shape) in &shapes {
        let layer = layer_of(name);
        let tensor = if loadable.contains(&layer) {
            report.loaded.push(name.clone());
            let entry = &entries[name.as_str()];
            if file.is_f64(&entry.name) {
                report.narrowed.push(name.clone());
            }
            file.read(&entry.name, shape, device)?
        } else {
            report.initialized.push(name.clone());
            let inputs = inputs_of(&shapes, layer);
            init::linear_default(name, shape, inputs, seed, device)?
        };
        tensors.insert(name.clone(), tensor);
    }
    Ok(Loaded { tensors, report })
}

/// Loads the configuration and the tensors of the backbone for
/// [`Features::load`](crate::Features::load).
pub(crate) fn load_features(
    path: &Path,
    device: &Device,
) -> Result<(VggConfig, BTreeMap<String, Tensor>), Error> {
    let mut file = WeightsFile::open(path)?;
    let config = match metadata_of(&file, path)? {
        Some(metadata) => metadata.config,
        None => detect::architecture(&file, &select::select(&file, path, None)?.prefix)
            .and_then(|name| VggConfig::named(&name, 1000).ok())
            .ok_or_else(|| Error::Undetected {
                path: path.into(),
                names: &VggConfig::NAMES,
            })?,
    };
    let shapes = config.tensor_shapes()?;
    let entries = match_features(path, &config, &shapes, &file)?.entries;
    let mut tensors = BTreeMap::new();
    for (name, shape) in features_of(&shapes) {
        let tensor = file.read(&entries[name.as_str()].name, shape, device)?;
        tensors.insert(name.clone(), tensor);
    }
    Ok((config, tensors))
}

/// Returns the layers to load: those whose tensors all have the right shape in the file, except the
/// head with [`Head::Replace`]. Adds mismatched and replaced tensors to the report.
fn loadable_layers<'a>(
    shapes: &'a [(String, Vec<usize>)],
    entries: &Entries<'_>,
    head: Head,
    report: &mut Report,
) -> Vec<&'a str> {
    let mut layers = Vec::new();
    for tensors in shapes.chunk_by(|(a, _), (b, _)| layer_of(a) == layer_of(b)) {
        let layer = layer_of(&tensors[0].0);
        let mut is_loadable = true;
        for (name, shape) in tensors {
            match entries.get(name.as_str()) {
                None => is_loadable = false,
                Some(entry) if entry.shape != *shape => {
                    is_loadable = false;
                    let mismatch = (name.clone(), entry.shape.clone(), shape.clone());
                    report.mismatched.push(mismatch);
                }
                Some(_) if layer == HEAD && head == Head::Replace => {
                    is_loadable = false;
                    report.replaced.push(name.clone());
                }
                Some(_) => {}
            }
        }
        if is_loadable {
            layers.push(layer);
        }
    }
    layers
}

/// Returns the layer that a tensor belongs to: `features.0` for `features.0.weight`.
fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

fn inputs_of(shapes: &[(String, Vec<usize>)], layer: &str) -> usize {
    let weight = format!("{layer}.weight");
    let shape = shapes.iter().find(|(name, _)| *name == weight);
    shape.map_or(1, |(_, shape)| shape[1..].iter().product())
}

/// Returns the names and shapes of the backbone's tensors.
fn features_of(shapes: &[(String, Vec<usize>)]) -> impl Iterator<Item = &(String, Vec<usize>)> {
    shapes
        .iter()
        .filter(|(name, _)| name.starts_with("features."))
}

/// Matches the tensors in a file with those of the network, and checks that the file has the whole
/// backbone with the right shapes. Otherwise the error names the architecture of the weights in the
/// file, if it can be detected. If `config` has a name in [`VggConfig::NAMES`], the detection of
/// another architecture is always an error. Unexpected tensors are errors too.
fn match_features<'a>(
    path: &Path,
    config: &VggConfig,
    shapes: &'a [(String, Vec<usize>)],
    file: &WeightsFile,
) -> Result<Matched<'a>, Error> {
    let mut matched = matching::matched(file, path, config, shapes)?;
    let detected = detect::architecture(file, &matched.selection.prefix)
        .filter(|architecture| *architecture != config.architecture);
    let is_named = VggConfig::NAMES.contains(&config.architecture.as_str());
    let result = check_shapes(path, config, features_of(shapes), &matched);
    match detected {
        Some(actual) if is_named || result.is_err() => Err(Error::WrongArchitecture {
            path: path.into(),
            expected: config.architecture.clone(),
            actual,
        }),
        _ => result.and_then(|()| {
            reject_unexpected(path, config, std::mem::take(&mut matched.unexpected))
        }),
    }?;
    Ok(matched)
}

fn reject_unexpected(path: &Path, config: &VggConfig, tensors: List) -> Result<(), Error> {
    let tensors = tensors.into_names();
    if tensors.is_empty() {
        return Ok(());
    }
    Err(Error::UnexpectedTensors {
        path: path.into(),
        architecture: config.architecture.clone(),
        tensors,
    })
}

/// Checks that the file has all tensors in `shapes`, with the right shapes.
fn check_shapes<'a>(
    path: &Path,
    config: &VggConfig,
    shapes: impl IntoIterator<Item = &'a (String, Vec<usize>)>,
    matched: &Matched<'_>,
) -> Result<(), Error> {
    for (name, shape) in shapes {
        match matched.entries.get(name.as_str()) {
            None => {
                return Err(Error::MissingTensor {
                    path: path.into(),
                    architecture: config.architecture.clone(),
                    tensor: matched.selection.prefix.name_in_file(name),
                });
            }
            Some(entry) if entry.shape != *shape => {
                return Err(Error::TensorShape {
                    path: path.into(),
                    architecture: config.architecture.clone(),
                    tensor: entry.name.clone(),
                    expected: shape.as_slice().into(),
                    actual: entry.shape.as_slice().into(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A model loaded from a file.
#[derive(Debug)]
pub struct Model {
    /// The metadata of the model.
    pub metadata: Metadata,
    /// All tensors as f32, by torchvision's name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Loads a model written by [`save`](crate::save).
///
/// # Errors
///
/// Returns an error if the file cannot be read or is invalid, if it has no metadata or invalid
/// metadata, if its tensors do not exactly match the network in the metadata, or if a tensor cannot
/// be created on the device.
pub fn load_model(path: impl AsRef<Path>, device: &Device) -> Result<Model, Error> {
    let path = path.as_ref();
    let mut file = WeightsFile::open(path)?;
    let Some(metadata) = metadata_of(&file, path)? else {
        return Err(Error::NoMetadata { path: path.into() });
    };
    let shapes = metadata.config.tensor_shapes()?;
    let mut matched = matching::matched(&file, path, &metadata.config, &shapes)?;
    let mut others = std::mem::take(&mut matched.unexpected);
    others.append(std::mem::take(&mut matched.unused));
    reject_unexpected(path, &metadata.config, others)?;
    check_shapes(path, &metadata.config, &shapes, &matched)?;
    let entries = matched.entries;
    let mut tensors = BTreeMap::new();
    for (name, shape) in &shapes {
        let tensor = file.read(&entries[name.as_str()].name, shape, device)?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(Model { metadata, tensors })
}
