//! The error type of this crate.

use std::path::{Path, PathBuf};

/// An error of this crate.
///
/// `Display` states what went wrong. [`Error::help`] suggests how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no architecture with this name.
    #[error("unknown architecture `{name}`")]
    UnknownArchitecture {
        /// The requested name.
        name: String,
        /// The names of all architectures.
        names: &'static [&'static str],
    },
    /// The configuration does not describe a valid network.
    #[error("invalid configuration of `{architecture}`: {reason}")]
    Config {
        /// Name of the architecture in the configuration.
        architecture: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation: `read`, `write`, `create` or `sync`.
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The file is not a safetensors file, or is truncated or corrupt.
    #[error("{} is not a valid safetensors file: {reason}", path.display())]
    NotSafetensors {
        /// Path of the file.
        path: PathBuf,
        /// Why the file is invalid.
        reason: String,
    },
    /// The file is not a weights file.
    #[error("{} is {format}, not a weights file", path.display())]
    NotWeights {
        /// Path of the file.
        path: PathBuf,
        /// The detected format with an article, such as `a PNG image`, or `in an unknown format`.
        format: &'static str,
        /// How to get weights instead.
        help: String,
    },
    /// The file is not a PyTorch state dict in a supported format, would run code when unpickled,
    /// or is corrupt.
    #[error("{} is not a readable PyTorch state dict: {reason}", path.display())]
    NotStateDict {
        /// Path of the file.
        path: PathBuf,
        /// Why the file is invalid.
        reason: String,
        /// How to convert or replace the file.
        help: String,
    },
    /// A value that the network needs as a tensor cannot be read.
    #[error("{}: `{tensor}` is {kind}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// The kind of the value, such as `a sparse tensor`.
        kind: String,
    },
    /// The file contains no weights with the key that the path selects.
    #[error("{} contains no weights of a VGG under the key `{key}`", path.display())]
    NoKey {
        /// Path of the file, with the key.
        path: PathBuf,
        /// The key.
        key: String,
        /// The keys of the weights in the file, except those without a key. If the list is
        /// shortened, its last element is a count of the others.
        keys: Vec<String>,
    },
    /// The file contains the weights of several networks, and none of their keys is a usual one.
    #[error("{} contains the weights of several networks: {}", path.display(), keys.join(", "))]
    AmbiguousKey {
        /// Path of the file.
        path: PathBuf,
        /// The keys of the networks in the file. If the list is shortened, its last element is a
        /// count of the others.
        keys: Vec<String>,
    },
    /// A tensor has a dtype other than f32, f16, bf16 and f64.
    #[error("{}: tensor `{tensor}` has dtype {dtype}", path.display())]
    Dtype {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// The dtype as the file format names it, such as `F64` (safetensors) or `float64` (PyTorch).
        dtype: String,
    },
    /// A tensor contains NaN or an infinite value.
    #[error("{}: tensor `{tensor}` contains {value}", path.display())]
    NonFinite {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// The first non-finite value.
        value: f32,
    },
    /// The weights belong to another architecture.
    #[error("{} contains weights of {actual}, not {expected}", path.display())]
    WrongArchitecture {
        /// Path of the file.
        path: PathBuf,
        /// The requested architecture.
        expected: String,
        /// The architecture detected from the shapes in the file.
        actual: String,
    },
    /// The file has no model metadata, and its convolutions do not match any named architecture.
    #[error("cannot detect the architecture of {}", path.display())]
    Undetected {
        /// Path of the file.
        path: PathBuf,
        /// The names of all architectures.
        names: &'static [&'static str],
    },
    /// The file lacks a tensor of the network.
    #[error("{} has no tensor `{tensor}` of {architecture}", path.display())]
    MissingTensor {
        /// Path of the file.
        path: PathBuf,
        /// Name of the architecture in the configuration.
        architecture: String,
        /// torchvision's name for the tensor.
        tensor: String,
    },
    /// A tensor in the file does not have the shape required by the network.
    #[error("{}: tensor `{tensor}` has shape {actual:?}, {architecture} needs {expected:?}", path.display())]
    TensorShape {
        /// Path of the file.
        path: PathBuf,
        /// Name of the architecture in the configuration.
        architecture: String,
        /// torchvision's name for the tensor.
        tensor: String,
        /// The shape in the network.
        expected: Box<[usize]>,
        /// The shape in the file, in torchvision's layout.
        actual: Box<[usize]>,
    },
    /// The file has tensors that the network does not have.
    #[error("{} has tensors that {architecture} does not have: {}", path.display(), tensors.join(", "))]
    UnexpectedTensors {
        /// Path of the file.
        path: PathBuf,
        /// Name of the architecture in the configuration.
        architecture: String,
        /// Names of unexpected tensors in the file, each with the most similar expected name if
        /// there is one, or the name that it repeats. If the list is shortened, its last element is
        /// a count of the others.
        tensors: Vec<String>,
    },
    /// The file contains weights without the metadata of a model.
    #[error("{} has weights but no model metadata", path.display())]
    NoMetadata {
        /// Path of the file.
        path: PathBuf,
    },
    /// Model metadata is invalid or inconsistent.
    #[error("{}: {reason}", path.display())]
    Metadata {
        /// Path of the file, or of the folder in [`timm::save`](crate::timm::save).
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// The images have the wrong dtype or shape.
    #[error("{architecture} needs images (B, 3, H, W) of at least {least}x{least} pixels in f32, got {shape:?} in {}", dtype.as_str())]
    Images {
        /// Name of the architecture.
        architecture: String,
        /// Minimum width and height in pixels.
        least: usize,
        /// Shape of the images.
        shape: candle_core::Shape,
        /// Dtype of the images.
        dtype: candle_core::DType,
    },
    /// The network has no heat map of this layer.
    #[error("`{layer}` is not a ReLU or pool in the backbone of {architecture}")]
    HeatMapLayer {
        /// Name of the architecture.
        architecture: String,
        /// The requested layer.
        layer: String,
        /// The names of the layers that have heat maps.
        layers: Vec<String>,
    },
    /// The network has fewer classes.
    #[error("there is no class {class}: {architecture} has {classes} classes")]
    Class {
        /// Name of the architecture.
        architecture: String,
        /// The requested class, counted from 0.
        class: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A batch does not have exactly one image.
    #[error("expected one image, got {images}")]
    ImageCount {
        /// The number of images.
        images: usize,
    },
    /// A result contains NaN or an infinite value.
    #[error("the {result} contains {value}")]
    NonFiniteResult {
        /// The result: `output of the model`, `gradient of the logit` or `heat map`.
        result: &'static str,
        /// The first non-finite value.
        value: f32,
    },
    /// A model cannot be written in the requested format.
    #[error("cannot write {}: {reason}", path.display())]
    Export {
        /// Path of the output file, or of the folder in [`timm::save`](crate::timm::save).
        path: PathBuf,
        /// Why the model cannot be written.
        reason: String,
        /// Another way to save the model, if there is one.
        help: Option<&'static str>,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Returns a suggestion for fixing the error, if there is one.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::UnknownArchitecture { names, .. } => format!("use one of {}", names.join(", ")),
            Self::NotSafetensors { .. } => "download or copy the file again".into(),
            Self::NotWeights { help, .. } => help.clone(),
            Self::NotStateDict { help, .. } => help.clone(),
            Self::Dtype { .. } => "convert the weights to float32, float16 or bfloat16".into(),
            Self::Unreadable { .. } => {
                "save it as a dense tensor of float32, float16 or bfloat16".into()
            }
            Self::NoKey { keys, .. } if keys.is_empty() => "leave out `#` and the key".into(),
            Self::NoKey { keys, .. } => format!("use one of the keys {}", keys.join(", ")),
            Self::AmbiguousKey { path, keys } => format!(
                "append the key to the path, such as `{}#{}`",
                path.display(),
                keys[0]
            ),
            Self::NonFinite { .. } => "use a file with finite weights".into(),
            Self::WrongArchitecture {
                expected, actual, ..
            } => format!("select the architecture {actual}, or use weights of {expected}"),
            Self::Undetected { names, .. } => format!(
                "use a file with model metadata, or weights of one of {}",
                names.join(", ")
            ),
            Self::MissingTensor { architecture, .. }
            | Self::TensorShape { architecture, .. }
            | Self::UnexpectedTensors { architecture, .. } => format!(
                "use weights of {architecture} with the tensor names of torchvision or timm"
            ),
            Self::NoMetadata { .. } => "train a model from these weights first".into(),
            Self::HeatMapLayer { layers, .. } => format!("use one of {}", layers.join(", ")),
            Self::Export { help, .. } => return help.map(String::from),
            Self::Config { .. }
            | Self::Images { .. }
            | Self::Class { .. }
            | Self::ImageCount { .. }
            | Self::NonFiniteResult { .. }
            | Self::Io { .. }
            | Self::Metadata { .. }
            | Self::Candle(_) => {
                return None;
            }
        };
        Some(help)
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.into(),
            source,
        }
    }
}
