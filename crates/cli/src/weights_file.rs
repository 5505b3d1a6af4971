//! Finds or downloads the weights file passed with `--weights`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use vgg::hub::{Address, Event};

use crate::error::Diagnostic;
use crate::files::parent;
use crate::model_file;
use crate::ui::{Message, Renderer};

/// Context added to errors from reading weights files.
pub const LOAD_ERROR: &str = "cannot load the weights";

/// File extensions that mark a file as weights when an error lists candidates.
const EXTENSIONS: [&str; 5] = ["safetensors", "pth", "pt", "ckpt", "bin"];
/// Maximum number of files listed in an error.
const MAX_LISTED: usize = 5;

/// Returns `path` if it is a file or `FILE#KEY`, or the model if `path` is a run directory.
///
/// # Errors
///
/// Returns an error if `path` does not exist, and the errors of [`model_file::locate`]. The first
/// of these lists up to five weights files in the same folder.
pub fn find(path: &Path) -> anyhow::Result<PathBuf> {
    if vgg::split_key(path).1.is_some() {
        return Ok(path.to_path_buf());
    }
    if path.exists() {
        return model_file::locate(path);
    }
    let folder = parent(path);
    let names = weights_in(folder);
    let items = (!names.is_empty()).then(|| {
        let names = names.join(", ");
        if folder == Path::new(".") {
            format!("weights in the current folder: {names}")
        } else {
            format!("weights in {}: {names}", folder.display())
        }
    });
    bail!(
        Diagnostic::new(format!("cannot find the weights file {}", path.display()))
            .items(items)
            .help(
                "`--weights` accepts a file (.safetensors or a PyTorch state dict), a run directory, \
                 `hub`, `hf:OWNER/REPO`, `sample` or `none`"
            )
    )
}

/// Downloads a file from the hub unless it is cached, and shows the progress. Returns its path in
/// the cache.
///
/// # Errors
///
/// Returns an error if the download fails. Errors of `renderer` are returned.
pub fn download(address: &Address, renderer: &mut dyn Renderer) -> anyhow::Result<PathBuf> {
    let what = &address.to_string();
    let mut result = Ok(());
    let mut last_percent = None;
    let path = vgg::hub::fetch(address, &mut |event| {
        let message = match event {
            Event::Progress { received, size } => {
                let total = size.unwrap_or(received) as usize;
                let done = received as usize;
                // There is an event for every small chunk, so messages are limited to one per
                // percent.
                let percent = done as u128 * 100 / total.max(1) as u128;
                if last_percent.replace(percent) == Some(percent) {
                    return;
                }
                Message::Download { what, done, total }
            }
            Event::Waiting { lock } => Message::Note {
                text: format!(
                    "waiting for another process that downloads {what} and has locked {}",
                    lock.display()
                ),
            },
            Event::Retry { error, pause } => Message::Note {
                text: format!("{error}; retrying in {:.1} s", pause.as_secs_f64()),
            },
            _ => return,
        };
        if result.is_ok() {
            result = renderer.show(&message);
        }
    })?;
    result.map(|()| path)
}

/// Adds to the `error` of reading `path`, a file in the cache of the hub, how to download it again if it
/// may be damaged. A hub whose ETags are not checksums can send a wrong file of the right size.
pub fn explain_cached(error: anyhow::Error, path: &Path) -> anyhow::Error {
    use vgg::Error::{Metadata, NonFinite, NotSafetensors, NotStateDict, NotWeights};
    let help = match error.downcast_ref::<vgg::Error>() {
        Some(NotSafetensors { .. } | Metadata { .. }) => download_again(path),
        Some(error @ (NotStateDict { .. } | NotWeights { .. } | NonFinite { .. })) => {
            let help = error.help().map(|help| help + "; ").unwrap_or_default();
            help + &download_again(path)
        }
        _ => return error,
    };
    Diagnostic::new(LOAD_ERROR)
        .help(help)
        .caused_by(error)
        .into()
}

/// Advice on how to replace `path`, a file in the cache of the hub.
pub fn download_again(path: &Path) -> String {
    // The path is that of a link. The file itself has to be removed.
    let file = path.canonicalize().unwrap_or_else(|_| path.into());
    format!("to download the file again, remove {}", file.display())
}

/// The names of the first [`MAX_LISTED`] weights files in `folder` that are not hidden, sorted, and
/// `…` if there are more. Empty if the folder cannot be read.
fn weights_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file()
    });
    let names = files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    if names.len() > MAX_LISTED {
        names.truncate(MAX_LISTED);
        names.push("…".to_string());
    }
    names
}
