//! The error type of this crate.

use std::path::{Path, PathBuf};

use crate::config::VggConfig;
use crate::hub::{Address, HubError};

/// An error of this crate.
///
/// The message states one fact. [`Error::help`] returns a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no architecture of this name.
    #[error("unknown architecture `{name}`")]
    UnknownArchitecture {
        /// The requested name.
        name: String,
    },
    /// The configuration describes no valid network.
    #[error("invalid configuration of `{architecture}`: {reason}")]
    Config {
        /// Name of the configuration.
        architecture: String,
        /// The violated condition.
        reason: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create` or `sync`.
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
        /// The violated rule of the format.
        reason: String,
    },
    /// The file has another format.
    #[error("{} is {format}, not a weights file", path.display())]
    NotWeights {
        /// Path of the file.
        path: PathBuf,
        /// The format, with an article: `a PNG image`.
        format: &'static str,
        /// A way to get weights instead.
        help: &'static str,
    },
    /// The file is not a PyTorch state dict, would run code when unpickled, or is corrupt.
    #[error("{} is not a readable PyTorch state dict: {reason}", path.display())]
    NotStateDict {
        /// Path of the file.
        path: PathBuf,
        /// The violated rule of the format.
        reason: String,
        /// How to convert or replace the file.
        help: String,
    },
    /// A tensor has a dtype that weights cannot have.
    #[error("{}: tensor `{tensor}` has dtype {dtype}", path.display())]
    Dtype {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// The dtype in the notation of the file format: `F64` or `float64`.
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
    /// The file lacks a tensor of the network.
    #[error("{} has no tensor `{tensor}` of {architecture}", path.display())]
    MissingTensor {
        /// Path of the file.
        path: PathBuf,
        /// The requested architecture.
        architecture: String,
        /// torchvision's name of the tensor.
        tensor: String,
    },
    /// A tensor has another shape than the network needs.
    #[error("{}: tensor `{tensor}` has shape {actual:?}, {architecture} needs {expected:?}", path.display())]
    TensorShape {
        /// Path of the file.
        path: PathBuf,
        /// The requested architecture.
        architecture: String,
        /// torchvision's name of the tensor.
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
        /// The requested architecture.
        architecture: String,
        /// Names of the tensors in the file, each with the most similar expected name: at most 20,
        /// then a count.
        tensors: Vec<String>,
    },
    /// The file has weights, but not the metadata of a model.
    #[error("{} has weights but no model metadata", path.display())]
    NoMetadata {
        /// Path of the file.
        path: PathBuf,
    },
    /// The metadata of a model is invalid or inconsistent.
    #[error("{}: {reason}", path.display())]
    Metadata {
        /// Path of the file.
        path: PathBuf,
        /// The violated condition.
        reason: String,
    },
    /// A model cannot be written in the requested format.
    #[error("cannot write {}: {reason}", path.display())]
    Export {
        /// Path of the output.
        path: PathBuf,
        /// The violated condition.
        reason: String,
        /// Another way to save the model.
        help: Option<&'static str>,
    },
    /// A file could not be downloaded from the hub.
    #[error("cannot download {address}: {source}")]
    Hub {
        /// Address of the file.
        address: Box<Address>,
        /// The cause of the failure.
        source: Box<HubError>,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Returns a remedy in plain words, if there is one.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::UnknownArchitecture { .. } => {
                format!("use one of {}", VggConfig::NAMES.join(", "))
            }
            Self::NotSafetensors { .. } => "download or copy the file again".into(),
            Self::NotWeights { help, .. } => (*help).into(),
            Self::NotStateDict { help, .. } => help.clone(),
            Self::Dtype { .. } => "convert the weights to float32, float16 or bfloat16".into(),
            Self::NonFinite { .. } => "use a file with finite weights".into(),
            Self::WrongArchitecture {
                expected, actual, ..
            } => format!("select the architecture {actual}, or use weights of {expected}"),
            Self::MissingTensor { architecture, .. }
            | Self::TensorShape { architecture, .. }
            | Self::UnexpectedTensors { architecture, .. } => format!(
                "use weights of {architecture} with the tensor names of torchvision or timm"
            ),
            Self::NoMetadata { .. } => "train a model from these weights first".into(),
            Self::Export { help, .. } => return help.map(String::from),
            Self::Hub { address, source } => source.help(address),
            Self::Config { .. } | Self::Io { .. } | Self::Metadata { .. } | Self::Candle(_) => {
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
