//! Reads weights files: safetensors files and PyTorch state dicts. The format is detected from the
//! content, not from the file name.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::file::TensorFile;
use crate::open::open_without_waiting;
use crate::pth::{self, PthFile};
use crate::sniff;

/// An open weights file.
#[derive(Debug)]
pub(crate) struct WeightsFile {
    format: Format,
    /// The key after `#` in the path.
    key: Option<String>,
}

#[derive(Debug)]
enum Format {
    Safetensors(TensorFile),
    Pth(PthFile),
}

/// Splits a path `FILE#KEY` of a weights file into the file and the key of the weights in it. If a
/// file with the whole name exists, there is no key.
pub fn split_key(path: &Path) -> (&Path, Option<&str>) {
    let split = path.to_str().and_then(|text| text.rsplit_once('#'));
    match split {
        Some((file, key)) if !key.is_empty() && !path.exists() && Path::new(file).exists() => {
            (Path::new(file), Some(key))
        }
        _ => (path, None),
    }
}

impl WeightsFile {
    /// Opens `path`, which can be `FILE#KEY`, detects its format, and validates the list of its
    /// tensors.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let (path, key) = split_key(path);
        let failed = |error| Error::io("read", path, error);
        let mut file = open_without_waiting(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(failed(error));
        }
        let mut start = Vec::new();
        (&mut file)
            .take(sniff::PREFIX_LENGTH as u64)
            .read_to_end(&mut start)
            .map_err(failed)?;
        file.rewind().map_err(failed)?;
        let format = match start.starts_with(pth::SIGNATURE) {
            true => Format::Pth(PthFile::open(path, file)?),
            false => Format::Safetensors(TensorFile::open(path, file, &start)?),
        };
        let file = Self {
            format,
            key: key.map(String::from),
        };
        // Names are printed on a terminal.
        let has_control = |name: &str| name.chars().any(char::is_control);
        if file.shapes().iter().any(|(name, _)| has_control(name)) {
            let (path, reason) = (
                path.into(),
                "the name of a tensor contains a control character",
            );
            return Err(match file.format {
                Format::Safetensors(_) => Error::NotSafetensors {
                    path,
                    reason: reason.into(),
                },
                Format::Pth(_) => Error::NotStateDict {
                    path,
                    reason: reason.into(),
                    help: "rename the tensor".into(),
                },
            });
        }
        Ok(file)
    }

    /// The key of the weights to use, if the path had one.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The `__metadata__` of a safetensors header. Empty for state dicts, which have none.
    pub(crate) fn strings(&self) -> BTreeMap<String, String> {
        match &self.format {
            Format::Safetensors(file) => file.strings().clone(),
            Format::Pth(_) => BTreeMap::new(),
        }
    }

    /// Names and shapes of the tensors in the file. In a PyTorch file, a name includes the keys of
    /// the dictionaries around the tensor: `state_dict.features.0.weight`.
    pub(crate) fn shapes(&self) -> Vec<(&str, &[usize])> {
        match &self.format {
            Format::Safetensors(file) => file.shapes().collect(),
            Format::Pth(file) => file.shapes().collect(),
        }
    }

    /// Names of values that are next to tensors but cannot be read, and what each one is.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        let file = match &self.format {
            Format::Safetensors(_) => None,
            Format::Pth(file) => Some(file),
        };
        file.into_iter().flat_map(PthFile::unreadable)
    }

    /// Whether a tensor has the dtype float64.
    pub(crate) fn is_f64(&self, name: &str) -> bool {
        match &self.format {
            Format::Safetensors(file) => file.is_f64(name),
            Format::Pth(file) => file.is_f64(name),
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
        match &mut self.format {
            Format::Safetensors(file) => file.read(name, shape, device),
            Format::Pth(file) => file.read(name, shape, device),
        }
    }
}
