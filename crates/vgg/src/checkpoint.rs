//! A file of weights, whichever of the two formats it is in: recognised by its content, not by its name.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::file::TensorFile;
use crate::pth::{self, Kind, PthFile};

/// An open file of weights.
#[derive(Debug)]
pub(crate) enum Checkpoint {
    /// Safetensors.
    Safetensors(TensorFile),
    /// A state dict of PyTorch.
    Pth(PthFile),
}

impl Checkpoint {
    /// Opens `path` and checks what it says about its tensors.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |error| Error::io("read", path, error);
        let mut file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(Error::NotSafetensors {
                path: path.into(),
                reason: "it is no file".into(),
            });
        }
        match pth::kind(&mut file).map_err(io)? {
            Kind::Zip => PthFile::open(path, file).map(Self::Pth),
            Kind::Legacy => Err(pth::legacy(path)),
            Kind::Other => TensorFile::open(path, file).map(Self::Safetensors),
        }
    }

    /// The strings of a safetensors header's `__metadata__`; a state dict has none.
    pub(crate) fn strings(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(file) => file.strings().clone(),
            Self::Pth(_) => BTreeMap::new(),
        }
    }

    /// Names and shapes as they stand in the file.
    pub(crate) fn shapes(&self) -> Vec<(&str, &[usize])> {
        match self {
            Self::Safetensors(file) => file.shapes().collect(),
            Self::Pth(file) => file.shapes().collect(),
        }
    }

    /// Reads a tensor as f32 in `shape`, which has as many elements as the file's. One tensor more than what is
    /// kept is in memory at most.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, Error> {
        match self {
            Self::Safetensors(file) => file.read(name, shape, device),
            Self::Pth(file) => file.read(name, shape, device),
        }
    }
}
