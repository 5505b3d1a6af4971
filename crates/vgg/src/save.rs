//! Saves models as safetensors.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::Tensor;

use crate::error::Error;
use crate::file;
use crate::metadata::Metadata;

/// Saves a model as safetensors in f32, with torchvision's tensor names and the metadata.
///
/// The file is replaced atomically. The same model gives the same bytes.
///
/// # Errors
///
/// Returns an error if the metadata is invalid, if the tensors do not exactly match the
/// network, or if the file cannot be written.
pub fn save(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    let path = path.as_ref();
    file::write_atomically(path, |out| save_to(out, path, tensors, metadata))
}

/// Writes a model to `out` as [`save`] does to a file, for callers that create the file themselves.
/// Errors name `path`.
///
/// # Errors
///
/// Returns an error if the metadata is invalid, if the tensors do not exactly match the network, or
/// if `out` cannot be written to.
pub fn save_to(
    out: &mut dyn Write,
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    check(path, tensors, metadata)?;
    file::write_tensors(out, path, tensors, &metadata.to_strings())
}

/// Checks that the metadata is valid and that the tensors exactly match the network. Errors name
/// `path`.
pub(crate) fn check(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
) -> Result<(), Error> {
    metadata.validate().map_err(|reason| Error::Metadata {
        path: path.into(),
        reason,
    })?;
    let invalid = |reason: String| Error::Export {
        path: path.into(),
        reason,
        help: None,
    };
    let shapes = metadata.config.tensor_shapes()?;
    for (name, shape) in &shapes {
        match tensors.get(name).map(Tensor::dims) {
            Some(dims) if dims == shape => {}
            Some(dims) => {
                return Err(invalid(format!(
                    "tensor `{name}` has shape {dims:?} instead of {shape:?}"
                )));
            }
            None => return Err(invalid(format!("tensor `{name}` is missing"))),
        }
    }
    if tensors.len() != shapes.len() {
        return Err(invalid(format!(
            "the model has {} tensors instead of {}",
            tensors.len(),
            shapes.len()
        )));
    }
    Ok(())
}
