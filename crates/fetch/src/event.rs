//! Progress of downloads.

use std::path::Path;
use std::time::Duration;

use crate::Error;

/// Progress of a download.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process holds the lock of the file. Sent by callers of [`lock`](crate::lock()), not
    /// by [`Client`](crate::Client).
    Waiting {
        /// Path of the locked file.
        lock: &'a Path,
    },
    /// A response or a part of its body arrived.
    Progress {
        /// Number of bytes of the file received so far, including those of earlier attempts.
        received: u64,
        /// Size of the file in bytes, if known.
        size: Option<u64>,
    },
    /// An attempt failed and will be repeated after a pause.
    Retry {
        /// Why the attempt failed.
        error: &'a Error,
        /// Time until the next attempt. Zero after a wrong size or checksum.
        pause: Duration,
    },
}
