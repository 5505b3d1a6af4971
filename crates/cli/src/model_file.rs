//! Finds the model file of a run directory.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::error::Diagnostic;

/// Name of the model file in a run directory.
pub const FILE: &str = "model.safetensors";

/// Finds the model file for `path`: the file itself, or `model.safetensors` in a run directory.
///
/// # Errors
///
/// Returns an error if there is no such file, or if it is a symbolic link to a file outside the run
/// directory.
pub fn locate(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!(
            Diagnostic::new(format!("no model `{}`", path.display()))
                .help(format!("pass a `{FILE}` file or a run directory"))
        );
    }
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let file = path.join(FILE);
    if !file.is_file() {
        if path.join("saved_model.pb").exists() {
            bail!(
                Diagnostic::new(format!(
                    "the folder `{}` is a TensorFlow SavedModel",
                    path.display()
                ))
                .help("use weights from PyTorch: a safetensors file or a state dict")
            );
        }
        bail!(
            Diagnostic::new(format!("no `{FILE}` in the folder `{}`", path.display()))
                .help("pass a run directory, such as `runs/train`")
        );
    }
    // An untrusted run directory must not redirect to a file elsewhere.
    let (folder, real) = (path.canonicalize(), file.canonicalize());
    if let (Ok(folder), Ok(real)) = (folder, real)
        && !real.starts_with(&folder)
    {
        bail!(
            Diagnostic::new(format!(
                "`{}` is a link to `{}`, outside its run directory",
                file.display(),
                real.display()
            ))
            .help("pass that file itself if you trust it")
        );
    }
    Ok(file)
}
