//! Finds the model file of a run directory.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::error::{Diagnostic, warn};
use crate::run_dir::Marker;
use crate::shell::quote;

/// Name of the model file in a run directory.
pub const FILE: &str = "model.safetensors";

/// Finds the model file for `path`: the file itself, or `model.safetensors` in a run directory. Prints
/// a warning if the run is not finished.
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
        if let Some(folder) = path.parent()
            && path.ends_with(FILE)
        {
            warn_if_unfinished(folder);
        }
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
    warn_if_unfinished(path);
    Ok(file)
}

/// Prints a warning if `folder` is the directory of a run that is not finished.
fn warn_if_unfinished(folder: &Path) {
    if Marker::read(folder).is_ok_and(|marker| !marker.finished) {
        let run = folder.display().to_string();
        let message = format!("the run {run} is not finished; its model is the best so far");
        let help = format!(
            "if it is not running, resume it with `waggle train --resume {}`",
            quote(&run)
        );
        warn(Diagnostic::new(message).help(help));
    }
}
