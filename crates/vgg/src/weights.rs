//! Weights in and out: pretrained networks for new classes, whole models for prediction.
//!
//! Both formats of [`Checkpoint`] are read; safetensors are written.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::config::VggConfig;
use crate::error::Error;
use crate::file;
use crate::init;
use crate::metadata::Metadata;
use crate::names;
use crate::recognise;

/// What became of each tensor, by torchvision's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Taken from the file.
    pub loaded: Vec<String>,
    /// Not in the file, or replaced: freshly initialised.
    pub fresh: Vec<String>,
    /// In the file, but replaced because the shape is another: name, shape in the file, shape here. These are
    /// in `fresh` too.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// In the file, but replaced by request, as the head of other classes.
    pub unused: Vec<String>,
}

impl Report {
    /// The layers of which something is fresh, from the input on: what should train first.
    pub fn fresh_layers(&self) -> Vec<String> {
        let mut layers = Vec::new();
        for name in &self.fresh {
            let layer = layer_of(name);
            if !layers.iter().any(|known| known == layer) {
                layers.push(layer.to_string());
            }
        }
        layers
    }
}

/// A complete set of tensors for a network.
#[derive(Debug)]
pub struct Loaded {
    /// All parameters by torchvision's name, f32.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where each came from.
    pub report: Report,
}

/// What to do with the head (`classifier.6`) of a pretrained file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Replace it: the usual start of transfer learning.
    Fresh,
    /// Keep it, when its shape fits: to go on with a model of the same classes.
    Keep,
}

/// Reads the metadata of a model file alone; `None` when it has none of ours.
///
/// Errors: an unreadable or broken file, metadata that makes no sense.
pub fn read_metadata(path: &Path) -> Result<Option<Metadata>, Error> {
    metadata_of(&Checkpoint::open(path)?, path)
}

fn metadata_of(file: &Checkpoint, path: &Path) -> Result<Option<Metadata>, Error> {
    Metadata::from_strings(&file.strings()).map_err(|what| Error::Metadata {
        path: path.into(),
        what,
    })
}

/// Reads a pretrained network for new classes: safetensors or a state dict of PyTorch, in torchvision's or timm's
/// names, f32, f16 or bf16, with or without a classifier.
///
/// The convolutions must all be there. Layers of the classifier that the file lacks are initialised as
/// `nn.Linear` is, keyed by `seed` and name; so is the head, unless it is kept. A classifier of other widths is
/// replaced and reported.
/// Errors: a file that is broken, of another network (which is named), or with tensors that belong nowhere.
pub fn load_pretrained(
    path: &Path,
    config: &VggConfig,
    head: Head,
    seed: u64,
    device: &Device,
) -> Result<Loaded, Error> {
    let mut file = Checkpoint::open(path)?;
    let parameters = config.parameters()?;
    let (found, unexpected) = sort_names(&file, &parameters);
    check_features(path, config, &parameters, &found, &file)?;
    if !unexpected.is_empty() {
        return Err(Error::Unexpected {
            path: path.into(),
            wanted: config.architecture.clone(),
            names: unexpected,
        });
    }

    let mut report = Report::default();
    let mut tensors = BTreeMap::new();
    let usable = usable_layers(&parameters, &found, head, &mut report);
    for (name, shape) in &parameters {
        let layer = layer_of(name);
        let tensor = if usable.contains(&layer) {
            report.loaded.push(name.clone());
            file.read(&found[name.as_str()].0, shape, device)?
        } else {
            report.fresh.push(name.clone());
            let inputs = inputs_of(&parameters, layer);
            init::linear_default(name, shape, inputs, seed, device)?
        };
        tensors.insert(name.clone(), tensor);
    }
    Ok(Loaded { tensors, report })
}

/// The layers whose tensors all come from the file; the report is told of the rest.
fn usable_layers<'a>(
    parameters: &'a [(String, Vec<usize>)],
    found: &Found<'_>,
    head: Head,
    report: &mut Report,
) -> Vec<&'a str> {
    let mut usable = Vec::new();
    for tensors in parameters.chunk_by(|(a, _), (b, _)| layer_of(a) == layer_of(b)) {
        let layer = layer_of(&tensors[0].0);
        let mut fits = true;
        for (name, shape) in tensors {
            match found.get(name.as_str()) {
                None => fits = false,
                Some((_, theirs)) if theirs != shape => {
                    fits = false;
                    let mismatch = (name.clone(), theirs.clone(), shape.clone());
                    report.mismatched.push(mismatch);
                }
                Some(_) if layer == "classifier.6" && head == Head::Fresh => {
                    fits = false;
                    report.unused.push(name.clone());
                }
                Some(_) => {}
            }
        }
        if fits {
            usable.push(layer);
        }
    }
    usable
}

/// `features.0` of `features.0.weight`.
fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

fn inputs_of(parameters: &[(String, Vec<usize>)], layer: &str) -> usize {
    let weight = format!("{layer}.weight");
    let shape = parameters.iter().find(|(name, _)| *name == weight);
    shape.map_or(1, |(_, shape)| shape[1..].iter().product())
}

/// Tensors that belong nowhere which an error names.
const LISTED: usize = 20;

/// By torchvision's name: the name in the file, and the shape in torchvision's layout.
type Found<'a> = BTreeMap<&'a str, (String, Vec<usize>)>;

/// The file's tensors that the network has, and the others, each with what may have been meant.
fn sort_names<'a>(
    file: &Checkpoint,
    parameters: &'a [(String, Vec<usize>)],
) -> (Found<'a>, Vec<String>) {
    let mut found = Found::new();
    let mut unexpected = Vec::new();
    let mut more = 0;
    for (name, shape) in file.shapes() {
        let ours = names::torchvision(name);
        if names::is_count(&ours) {
            continue;
        }
        match parameters.iter().find(|(known, _)| *known == ours) {
            Some((known, _)) if !found.contains_key(known.as_str()) => {
                let shape = names::torchvision_shape(known, shape);
                found.insert(known, (name.to_string(), shape));
            }
            // As in a checkpoint with the weights and their moving average side by side.
            Some((known, _)) => unexpected.push(format!("{name} (a second {known})")),
            None if unexpected.len() == LISTED => more += 1,
            None => {
                let known = parameters.iter().map(|(known, _)| known.as_str());
                unexpected.push(match names::nearest(&ours, known) {
                    Some(meant) => format!("{name} (did you mean {meant}?)"),
                    None => name.to_string(),
                });
            }
        }
    }
    if more > 0 {
        unexpected.push(format!("and {more} more"));
    }
    (found, unexpected)
}

/// Every convolution must be there with its shape; if not, the error names the network that the file holds.
fn check_features(
    path: &Path,
    config: &VggConfig,
    parameters: &[(String, Vec<usize>)],
    found: &Found<'_>,
    file: &Checkpoint,
) -> Result<(), Error> {
    let theirs = recognise::architecture(file.shapes().into_iter());
    let wrong = |found: String| Error::WrongArchitecture {
        path: path.into(),
        wanted: config.architecture.clone(),
        found: match &theirs {
            Some(name) if *name != config.architecture => format!("this is a {name}"),
            _ => found,
        },
        advice: match &theirs {
            Some(name) if *name != config.architecture => {
                format!("Use --arch {name}, or other weights")
            }
            _ => "Use weights of that network in torchvision's or timm's names".into(),
        },
    };
    if let Some(name) = &theirs
        && VggConfig::NAMES.contains(&config.architecture.as_str())
        && *name != config.architecture
    {
        return Err(wrong(String::new()));
    }
    for (name, shape) in parameters
        .iter()
        .filter(|(name, _)| name.starts_with("features."))
    {
        match found.get(name.as_str()) {
            None => return Err(wrong(format!("it has no tensor {name}"))),
            Some((_, theirs)) if theirs != shape => {
                return Err(wrong(format!(
                    "{name} is {theirs:?} there and {shape:?} here"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A trained model as it was saved.
#[derive(Debug)]
pub struct Model {
    /// What it is.
    pub metadata: Metadata,
    /// All parameters by torchvision's name, f32.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Reads a model that [`save`] wrote: everything must be there and agree with the metadata.
///
/// Errors: a broken file, no metadata, tensors that are missing, have other shapes, or are too many.
pub fn load_model(path: &Path, device: &Device) -> Result<Model, Error> {
    let mut file = Checkpoint::open(path)?;
    let wrong = |what: String| Error::Metadata {
        path: path.into(),
        what,
    };
    let Some(metadata) = metadata_of(&file, path)? else {
        return Err(wrong(
            "it has weights but no metadata of a trained model (config, classes): train with it as --weights first".into(),
        ));
    };
    let parameters = metadata.config.parameters()?;
    let (found, unexpected) = sort_names(&file, &parameters);
    if let Some(name) = unexpected.first() {
        return Err(wrong(format!(
            "tensor {name} does not belong to its network"
        )));
    }
    let mut tensors = BTreeMap::new();
    for (name, shape) in &parameters {
        match found.get(name.as_str()) {
            None => return Err(wrong(format!("tensor {name} is missing"))),
            Some((_, theirs)) if theirs != shape => {
                return Err(wrong(format!(
                    "tensor {name} is {theirs:?}, but its metadata (classes: {}) says {shape:?}",
                    metadata.classes.len()
                )));
            }
            Some((theirs, _)) => {
                tensors.insert(name.clone(), file.read(theirs, shape, device)?);
            }
        }
    }
    Ok(Model { metadata, tensors })
}

/// Writes a model: f32, torchvision's names, with its metadata; atomically, and the same bytes for the same model.
///
/// Errors: metadata that contradicts itself or the tensors; a file that cannot be written.
pub fn save(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    let wrong = |what: String| Error::Metadata {
        path: path.into(),
        what,
    };
    metadata.check().map_err(wrong)?;
    let parameters = metadata.config.parameters()?;
    for (name, shape) in &parameters {
        match tensors.get(name) {
            Some(tensor) if tensor.dims() == shape => {}
            _ => return Err(wrong(format!("tensor {name} is missing or not {shape:?}"))),
        }
    }
    if tensors.len() != parameters.len() {
        return Err(wrong(format!(
            "{} tensors for a network of {}",
            tensors.len(),
            parameters.len()
        )));
    }
    file::write(path, tensors, &metadata.to_strings())
}
