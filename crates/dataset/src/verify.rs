//! Looks at every image before anything is trained: a bad file is found now, not in epoch 7.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use image::RgbImage;

use crate::decode::{DecodeOptions, Decoder};
use crate::error::{Error, Result};
use crate::image_folder::Sample;
use crate::loader::panic::catch_panic;

/// Decodes every image on `workers` threads (0: in the calling thread) and throws it away.
///
/// [`Loader::preload`](crate::Loader::preload) does the same and keeps what its cache has room for.
///
/// # Errors
///
/// [`Error::BadImages`], with every image that cannot be used.
pub fn verify(samples: &[Sample], options: &DecodeOptions, workers: usize) -> Result<()> {
    all_good(find_bad_images(samples, options, workers)?, samples.len())
}

/// The images that cannot be used, as [`verify`] finds them: index and error, in the order of the samples.
///
/// # Errors
///
/// [`Error::Spawn`], when there are no threads to be had.
pub fn find_bad_images(
    samples: &[Sample],
    options: &DecodeOptions,
    workers: usize,
) -> Result<Vec<(usize, Error)>> {
    let state = || (Decoder::new(options.clone()), RgbImage::default());
    each(
        samples.len(),
        workers,
        state,
        |(decoder, scratch), sample| {
            let path = &samples[sample].path;
            catch_panic(
                || format!("`{}`", path.display()),
                || {
                    *scratch = decoder.decode(path, std::mem::take(scratch))?;
                    Ok(())
                },
            )
        },
    )
}

/// An error that lists what is `bad` among `checked` images, if anything is.
pub(crate) fn all_good(bad: Vec<(usize, Error)>, checked: usize) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::BadImages {
        errors: bad.into_iter().map(|(_, error)| error).collect(),
        checked,
    })
}

/// Runs `check` on 0 to `count` − 1 and gathers the errors in that order.
pub(crate) fn each<S>(
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
                    .expect("nothing panics while it is locked")
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
    let mut bad = bad.into_inner().expect("nothing panics while it is locked");
    bad.sort_by_key(|&(sample, _)| sample);
    Ok(bad)
}
