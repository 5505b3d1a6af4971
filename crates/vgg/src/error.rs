//! What can go wrong with a network or its weights, each with what, where and what to do next.

use std::path::PathBuf;

use crate::hub::{Address, HubError};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No network of the table has this name.
    #[error("unknown architecture `{name}`: use one of {}", crate::VggConfig::NAMES.join(", "))]
    UnknownArchitecture {
        /// The name that was asked for.
        name: String,
    },
    /// A configuration that describes no network.
    #[error("the configuration of {architecture} has {what}")]
    Config {
        /// The configuration's name.
        architecture: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file could not be read or written.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a broken one.
    #[error("{} is not a whole safetensors file: {reason}; fetch or copy it again", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file in neither format of weights.
    #[error("{} is {what}, not weights (safetensors, or a state dict of PyTorch); {advice}", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
        /// What to do next.
        advice: &'static str,
    },
    /// A PyTorch file that is no state dict, asks for code to be run, or is broken.
    #[error("{} is no state dict of PyTorch that can be read: {reason}", path.display())]
    NotStateDict {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do next.
        reason: String,
    },
    /// A tensor in a number format that no weights are kept in.
    #[error("{}: tensor {tensor} is {dtype}; weights are F32, F16 or BF16", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its format.
        dtype: String,
    },
    /// A tensor with values that are NaN or infinite.
    #[error("{}: tensor {tensor} contains {value}", path.display())]
    NonFinite {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// The first non-finite value.
        value: f32,
    },
    /// The tensors of the file make another network than the one asked for.
    #[error("{} does not fit {wanted}: {found}. {advice}", path.display())]
    WrongArchitecture {
        /// The file.
        path: PathBuf,
        /// The network that was asked for.
        wanted: String,
        /// What the file holds instead, or which tensors do not fit.
        found: String,
        /// What to do next.
        advice: String,
    },
    /// Tensors that the network has no place for.
    #[error("{} holds tensors that {wanted} has no place for: {}", path.display(), .names.join(", "))]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The network.
        wanted: String,
        /// The tensors, each with the nearest expected name.
        names: Vec<String>,
    },
    /// A model file whose metadata is missing or contradicts its tensors.
    #[error("{}: {what}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file could not be downloaded from the hub.
    #[error("cannot download {address}: {source}")]
    Hub {
        /// Address of the file.
        address: Box<Address>,
        /// The reason.
        source: Box<HubError>,
    },
    /// candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// A remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Hub { address, source } => Some(source.help(address)),
            _ => None,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.into(),
            source,
        }
    }
}
