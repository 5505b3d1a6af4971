//! The file that `--weights` means, and what to say when it is not there.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::model_file;

/// Extensions that weights have.
const EXTENSIONS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];
/// Files that an error names.
const NAMED: usize = 5;

/// The file that `path` means: itself, or the model of a run directory.
///
/// # Errors
///
/// When there is none: what else `--weights` takes, and the weights that lie where it should be.
pub fn find(path: &Path) -> anyhow::Result<PathBuf> {
    if path.exists() {
        return model_file::locate(path);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = weights_in(folder);
    let hint = match beside.join(", ") {
        none if none.is_empty() => none,
        names if folder == Path::new(".") => format!("; in this folder: {names}"),
        names => format!("; in `{}`: {names}", folder.display()),
    };
    bail!(
        "there is no weights file `{}`{hint}. --weights takes a FILE (.safetensors, or a state dict of PyTorch), hub, \
         hf:OWNER/REPO or none",
        path.display()
    )
}

/// The names of the weights in a folder, sorted, the first of them; nothing where it cannot be read.
fn weights_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file()
    });
    let names = files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".to_string());
    }
    names
}
