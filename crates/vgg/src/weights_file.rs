//! Reads weights files: safetensors files and PyTorch state dicts. The format is detected from the
//! content, not from the file name.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::file::TensorFile;
use crate::pth::{self, Format, PthFile};

/// An open weights file.
#[derive(Debug)]
pub(crate) enum WeightsFile {
    /// A safetensors file.
    Safetensors(TensorFile),
    /// A PyTorch state dict.
    Pth(PthFile),
}

impl WeightsFile {
    /// Opens `path`, detects its format, and validates the list of its tensors.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |error| Error::io("read", path, error);
        // Check the file type before opening, because opening a named pipe blocks until there is a
        // writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::NotSafetensors {
                path: path.into(),
                reason: "it is not a regular file".into(),
            });
        }
        let mut file = File::open(path).map_err(io)?;
        match pth::detect_format(&mut file).map_err(io)? {
            Format::Zip => PthFile::open(path, file).map(Self::Pth),
            Format::Legacy => Err(pth::legacy_error(path)),
            Format::Other => TensorFile::open(path, file).map(Self::Safetensors),
        }
    }

    /// The `__metadata__` of a safetensors header. Empty for state dicts, which have none.
    pub(crate) fn strings(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(file) => file.strings().clone(),
            Self::Pth(_) => BTreeMap::new(),
        }
    }

    /// Names and shapes of the tensors in the file.
    pub(crate) fn shapes(&self) -> Vec<(&str, &[usize])> {
        match self {
            Self::Safetensors(file) => file.shapes().collect(),
            Self::Pth(file) => file.shapes().collect(),
        }
    }

    /// Reads a tensor as f32 and reshapes it to `shape`, which has the same number of elements.
    /// Buffers at most one tensor.
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
