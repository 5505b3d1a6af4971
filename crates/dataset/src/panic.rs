//! Converts panics while images are loaded into errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Runs `work` and converts a panic into [`Error::Panic`], in which `item()` identifies the failed
/// job.
///
/// After a panic, values that `work` borrows may be inconsistent. Callers must overwrite them
/// before use.
pub(crate) fn catch_panic<T>(
    item: impl FnOnce() -> String,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::Panic {
            item: item(),
            message: message(payload.as_ref()),
        })
    })
}

thread_local! {
    static DECODES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a decoder, whose panics are caught and reported as damaged images. A panic
/// hook need not report them.
pub fn is_decoding() -> bool {
    DECODES.get()
}

/// Runs a decoder. Returns `None` if it panics, as those of other crates do for some damaged files.
pub(crate) fn catch_decoder_panic<T>(decode: impl FnOnce() -> T) -> Option<T> {
    DECODES.set(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    DECODES.set(false);
    decoded.ok()
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
