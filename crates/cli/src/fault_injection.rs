//! Fault injection for tests, controlled by the environment variable `WAGGLE_FAULT=KIND:NUMBER`. No
//! fault is injected if it is not set.
//!
//! - `checkpoint:BYTES` aborts the process, as `kill -9` would, after it has written that many
//!   bytes of checkpoints;
//! - `checkpoint-panic:BYTES` panics at that byte, in the thread that writes checkpoints;
//! - `image-panic:COUNT` panics after that many images have been decoded, in a thread of the
//!   loader.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dataset::{Decoder, Sample};
use image::RgbImage;

/// Message of all injected panics.
const PANIC_MESSAGE: &str = "injected fault";

/// The fault to inject, as set by `WAGGLE_FAULT`.
struct Fault {
    kind: String,
    /// Number of bytes to write or images to decode before the fault occurs.
    left: AtomicU64,
}

impl Fault {
    /// The fault set in the environment, if its kind starts with `kind`.
    fn from_env(kind: &str) -> Option<&'static Self> {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        let fault = FAULT.get_or_init(|| {
            let variable = std::env::var("WAGGLE_FAULT").ok()?;
            let (kind, number) = variable.split_once(':')?;
            Some(Fault {
                kind: kind.to_string(),
                left: AtomicU64::new(number.parse().ok()?),
            })
        });
        fault.as_ref().filter(|fault| fault.kind.starts_with(kind))
    }
}

/// A checkpoint file whose writes can be made to fail.
pub(crate) struct FaultyFile(pub(crate) File);

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fault) = Fault::from_env("checkpoint") else {
            return self.0.write(bytes);
        };
        let left = fault.left.load(Ordering::Relaxed);
        if left <= bytes.len() as u64 {
            // As in a real crash, the bytes before the fault are in the file.
            self.0.write_all(&bytes[..left as usize])?;
            match fault.kind.as_str() {
                "checkpoint-panic" => panic!("{PANIC_MESSAGE}"),
                _ => std::process::abort(),
            }
        }
        let written = self.0.write(bytes)?;
        fault.left.fetch_sub(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Calls [`Decoder::decode`], or panics if a fault is due.
pub(crate) fn decode(
    decoder: &mut Decoder,
    sample: &Sample,
    reuse: RgbImage,
) -> Result<RgbImage, dataset::Error> {
    if let Some(fault) = Fault::from_env("image-panic") {
        let decrement = |left: u64| left.checked_sub(1);
        let updated = fault
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement);
        assert!(updated.is_ok(), "{PANIC_MESSAGE}");
    }
    decoder.decode(&sample.path, reuse)
}
