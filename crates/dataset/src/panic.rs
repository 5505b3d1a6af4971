//! Converts panics while images are loaded into errors.

use std::any::Any;
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

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
