//! Finds and decodes the images of `waggle predict` and `waggle explain` on background threads.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::bail;
use candle_core::Tensor;
use dataset::image_folder::{self, Unused, count_kinds};
use rayon::prelude::*;

use crate::args::{ImageArgs, MachineArgs};
use crate::classifier::Classifier;
use crate::error::{Diagnostic, warn};
use crate::memory_limit;
use crate::panic_message::panic_message;
use crate::path_list::PathList;
use crate::ui::text::unused_files;

/// The path argument that stands for the paths on standard input.
const STDIN: &str = "-";

/// One batch of images, decoded or failed, in input order.
pub type Chunk = Vec<(PathBuf, anyhow::Result<Tensor>)>;

/// Starts a thread that finds the images, decodes them on a thread pool and sends one chunk per
/// `batch_size` images. The next chunk is decoded during the forward pass of the current one. The thread ends when
/// the receiver is dropped, unless it waits for standard input.
///
/// # Errors
///
/// Returns an error if a thread cannot be started.
pub fn start(
    model: &Arc<Classifier>,
    images: &ImageArgs,
    batch_size: usize,
    machine: &MachineArgs,
) -> anyhow::Result<(
    mpsc::Receiver<anyhow::Result<Chunk>>,
    thread::JoinHandle<()>,
)> {
    let failed = || {
        Diagnostic::new("cannot start the threads that decode images")
            .help("pass a smaller value for `--workers`")
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(machine.workers())
        .build()
        .map_err(|error| failed().caused_by(error))?;
    let (sender, chunks) = mpsc::sync_channel(1);
    let model = Arc::clone(model);
    let options = machine.decode.options();
    let (mut paths, null) = (images.paths.clone(), images.null);
    if null && !paths.iter().any(|path| path == Path::new(STDIN)) {
        paths.push(STDIN.into());
    }
    let work = move || {
        let decode = |(path, error): (PathBuf, Option<anyhow::Error>)| {
            let image = match error {
                Some(error) => Err(error),
                None => model.read(&path, &options).map_err(Into::into),
            };
            (path, image)
        };
        let send = |batch: Vec<_>| {
            let checked = memory_limit::check_batch(&model.metadata.config, batch.len(), false);
            let chunk =
                checked.map(|()| pool.install(|| batch.into_par_iter().map(decode).collect()));
            let failed = chunk.is_err();
            // If the receiver is gone, the command has already failed.
            match sender.send(chunk) {
                Ok(()) if !failed => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let mut batch = Vec::new();
        let found = find(paths, null, &mut |path, error| {
            batch.push((path, error));
            if batch.len() < batch_size {
                return ControlFlow::Continue(());
            }
            send(std::mem::take(&mut batch))
        });
        let _ = send(batch);
        if let Err(error) = found {
            let _ = sender.send(Err(error));
        }
    };
    let thread = thread::Builder::new().name("images".to_string());
    let thread = thread
        .spawn(work)
        .map_err(|error| failed().caused_by(error))?;
    Ok((chunks, thread))
}

/// Waits for the end of the thread.
///
/// # Errors
///
/// Returns an error if it panicked.
pub fn finish(thread: thread::JoinHandle<()>) -> anyhow::Result<()> {
    if let Err(payload) = thread.join() {
        let message = panic_message(payload.as_ref()).unwrap_or("unknown");
        bail!("panicked while decoding the images: {message}");
    }
    Ok(())
}

/// Receives an image, or a folder with the reason why it has no images.
type Emit<'a> = dyn FnMut(PathBuf, Option<anyhow::Error>) -> ControlFlow<()> + 'a;

/// Passes the images of `paths` to `emit`, until it breaks. A folder stands for the images in it and
/// its subfolders, in sorted order, and `-` for the paths on standard input, which NUL bytes separate
/// if `null` is set. A folder that has no images or cannot be read is passed with an error. Other
/// paths are passed even if they do not exist.
///
/// # Errors
///
/// Returns an error if standard input cannot be read or has no paths.
fn find(paths: Vec<PathBuf>, null: bool, emit: &mut Emit<'_>) -> anyhow::Result<()> {
    for path in paths {
        if path != Path::new(STDIN) {
            if expand(path, emit).is_break() {
                break;
            }
            continue;
        }
        let mut is_empty = true;
        for path in PathList::new(io::stdin().lock(), null) {
            is_empty = false;
            if expand(path?, emit).is_break() {
                return Ok(());
            }
        }
        if is_empty {
            bail!(
                Diagnostic::new("no paths on standard input")
                    .help("write one path per line, or pass paths as arguments")
            );
        }
    }
    Ok(())
}

fn expand(path: PathBuf, emit: &mut Emit<'_>) -> ControlFlow<()> {
    if !path.is_dir() {
        // A missing file, or one that is not an image, is reported when it is decoded.
        return emit(path, None);
    }
    match image_folder::files(&path) {
        Ok(files) if files.images.is_empty() => {
            let counts = count_kinds(&files.unused);
            let message = format!("no images in the folder `{}`", path.display());
            let error = match (
                unused_files(&counts),
                counts.iter().find(|count| count.is_image),
            ) {
                (Some(unused), Some(image)) => {
                    Diagnostic::new(format!("{message}, only {unused}")).help(&image.remedy)
                }
                _ => Diagnostic::new(message).help(format!(
                    "the supported extensions are {}",
                    image_folder::EXTENSIONS.join(", ")
                )),
            };
            emit(path, Some(error.into()))
        }
        Ok(files) => {
            warn_of_unused_images(&path, &files.unused);
            files
                .images
                .into_iter()
                .try_for_each(|file| emit(file, None))
        }
        Err(error) => emit(path, Some(error.into())),
    }
}

/// Prints a warning if some of the files in `unused`, which are in `folder`, are images.
fn warn_of_unused_images(folder: &Path, unused: &[Unused]) {
    let mut counts = count_kinds(unused);
    counts.retain(|count| count.is_image);
    if let (Some(images), Some(first)) = (unused_files(&counts), counts.first()) {
        let message = format!("not used in the folder `{}`: {images}", folder.display());
        warn(Diagnostic::new(message).help(&first.remedy));
    }
}
