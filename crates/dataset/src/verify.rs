//! Decodes every image before training, so that a damaged file does not stop a later epoch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use image::RgbImage;

use crate::decode::{self, DecodeOptions, Decoder};
use crate::error::{Error, Result};
use crate::image_folder::Sample;
use crate::panic::catch_panic;

/// Decodes every image and discards it.
///
/// Uses `workers` threads, or the calling thread if `workers` is 0.
/// [`Loader::preload`](crate::Loader::preload) makes this check with the loader's decoder and also
/// fills the loader's cache.
///
/// # Errors
///
/// Returns [`Error::BadImages`] with the error of each image that fails, or [`Error::Spawn`] if a
/// thread cannot be started.
pub fn verify(samples: &[Sample], options: &DecodeOptions, workers: usize) -> Result<()> {
    fail_if_any(find_bad_images(samples, options, workers)?, samples.len())
}

/// Decodes every image and returns the index and error of each that fails, in the order of the
/// samples.
///
/// # Errors
///
/// Returns [`Error::Spawn`] if a thread cannot be started.
pub fn find_bad_images(
    samples: &[Sample],
    options: &DecodeOptions,
    workers: usize,
) -> Result<Vec<(usize, Error)>> {
    let state = || (Decoder::new(options.clone()), RgbImage::default());
    for_each_index(
        samples.len(),
        workers,
        state,
        |(decoder, scratch), sample| {
            let path = &samples[sample].path;
            catch_panic(
                || path.display().to_string(),
                || {
                    *scratch = decoder.decode(path, std::mem::take(scratch))?;
                    decode::drop_large(scratch);
                    Ok(())
                },
            )
        },
    )
}

/// Returns [`Error::BadImages`] if `bad` is not empty.
pub(crate) fn fail_if_any(bad: Vec<(usize, Error)>, checked: usize) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::BadImages {
        errors: bad.into_iter().map(|(_, error)| error).collect(),
        checked,
    })
}

/// Runs `check` on the indices below `count` and returns its errors, sorted by index.
///
/// Uses `workers` threads, or the calling thread if `workers` is 0. Each thread creates a state with
/// `state` and passes it to `check`.
///
/// # Errors
///
/// Returns [`Error::Spawn`] if a thread cannot be started.
pub(crate) fn for_each_index<S>(
    count: usize,
    workers: usize,
    state: impl Fn() -> S + Sync,
    check: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<Vec<(usize, Error)>> {
    let next = AtomicUsize::new(0);
    let bad = Mutex::new(Vec::new());
    let work = || {
        let mut state = state();
        loop {
            let sample = next.fetch_add(1, Ordering::Relaxed);
            if sample >= count {
                break;
            }
            if let Err(error) = check(&mut state, sample) {
                bad.lock()
                    .expect("no thread panics while it holds the lock")
                    .push((sample, error));
            }
        }
    };
    if workers == 0 {
        work();
    } else {
        thread::scope(|scope| {
            for number in 0..workers.min(count) {
                let thread = thread::Builder::new().name(format!("verify-{number}"));
                thread.spawn_scoped(scope, work).map_err(Error::Spawn)?;
            }
            Ok::<_, Error>(())
        })?;
    }
    let mut bad = bad
        .into_inner()
        .expect("no thread panics while it holds the lock");
    bad.sort_by_key(|&(sample, _)| sample);
    Ok(bad)
}
