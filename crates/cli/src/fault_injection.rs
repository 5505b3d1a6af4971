//! Fault injection for tests, controlled by the environment variable `WAGGLE_FAULT=KIND:NUMBER`. No
//! fault is injected if it is not set.
//!
//! The feature `fault-injection`, which only the tests of this crate enable, compiles this module.
//!
//! - `crash:BYTES` aborts the process, as `kill -9` would, after it has written that many bytes to
//!   files of runs;
//! - `disk-full:BYTES` lets all writes after that many bytes fail as on a full disk;
//! - `checkpoint-panic:BYTES` panics after that many bytes of checkpoints, in the thread that writes
//!   them;
//! - `image-panic:COUNT` panics after that many images have been decoded, in a thread of the
//!   loader;
//! - `no-thread:COUNT` lets the start of the thread that writes a checkpoint fail after that many
//!   checkpoints.

#![cfg(feature = "fault-injection")]

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dataset::{Decoder, Sample};
use image::RgbImage;

/// Message of all injected panics.
const PANIC_MESSAGE: &str = "injected fault";

/// The fault to inject, as set by `WAGGLE_FAULT`.
struct Fault {
    kind: String,
    /// Number of bytes to write, images to decode or threads to start before the fault occurs.
    left: AtomicU64,
}

impl Fault {
    /// The fault set in the environment, if its kind is one of `kinds`.
    fn from_env(kinds: &[&str]) -> Option<&'static Self> {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        let fault = FAULT.get_or_init(|| {
            let variable = std::env::var("WAGGLE_FAULT").ok()?;
            let (kind, number) = variable.split_once(':')?;
            Some(Fault {
                kind: kind.to_string(),
                left: AtomicU64::new(number.parse().ok()?),
            })
        });
        fault
            .as_ref()
            .filter(|fault| kinds.contains(&&fault.kind[..]))
    }

    /// Counts an image or a thread. Returns whether the fault is due.
    fn count(&self) -> bool {
        let decrement = |left: u64| left.checked_sub(1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.left.fetch_update(set, fetch, decrement).is_err()
    }
}

/// A file whose writes can be made to fail.
pub(crate) struct FaultyFile<'a> {
    file: &'a File,
    fault: Option<&'static Fault>,
}

impl<'a> FaultyFile<'a> {
    /// Wraps the temporary file `file`, which will be renamed to `path`.
    pub(crate) fn new(file: &'a File, path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kinds: &[&str] = match name.starts_with("checkpoint-") {
            true => &["crash", "disk-full", "checkpoint-panic"],
            false => &["crash", "disk-full"],
        };
        Self {
            file,
            fault: Fault::from_env(kinds),
        }
    }
}

impl Write for FaultyFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fault) = self.fault else {
            return self.file.write(bytes);
        };
        let left = fault.left.load(Ordering::Relaxed);
        if left <= bytes.len() as u64 {
            // As in a real crash, the bytes before the fault are in the file.
            self.file.write_all(&bytes[..left as usize])?;
            fault.left.store(0, Ordering::Relaxed);
            match fault.kind.as_str() {
                "checkpoint-panic" => panic!("{PANIC_MESSAGE}"),
                "disk-full" => return Err(io::ErrorKind::StorageFull.into()),
                _ => std::process::abort(),
            }
        }
        let written = self.file.write(bytes)?;
        fault.left.fetch_sub(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Calls [`Decoder::decode`], or panics if a fault is due.
pub(crate) fn decode(
    decoder: &mut Decoder,
    sample: &Sample,
    reuse: RgbImage,
) -> Result<RgbImage, dataset::Error> {
    let is_due = Fault::from_env(&["image-panic"]).is_some_and(Fault::count);
    assert!(!is_due, "{PANIC_MESSAGE}");
    decoder.decode(&sample.path, reuse)
}

/// Returns the error of a system that cannot start another thread if a fault is due.
pub(crate) fn start_thread() -> io::Result<()> {
    match Fault::from_env(&["no-thread"]).is_some_and(Fault::count) {
        true => Err(io::ErrorKind::WouldBlock.into()),
        false => Ok(()),
    }
}
