//! Deliberate faults, for the tests: `WAGGLE_FAULT=KIND:NUMBER`. Without the variable nothing here does anything.
//!
//! - `checkpoint:BYTES` ends the process, as `kill -9` would, once it has written that many bytes of checkpoints in all;
//! - `checkpoint-panic:BYTES` panics there, in the thread that writes them;
//! - `image-panic:COUNT` panics in place of decoding a picture once that many have been decoded, in a loader's thread.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dataset::Decoder;
use image::RgbImage;

/// A fault that is wished for, and what is left until then.
struct Fault {
    kind: String,
    left: AtomicU64,
}

impl Fault {
    /// The one that is wished for, if it is of a kind that begins so.
    fn wished(kind: &str) -> Option<&'static Self> {
        static WISHED: OnceLock<Option<Fault>> = OnceLock::new();
        let wished = WISHED.get_or_init(|| {
            let wish = std::env::var("WAGGLE_FAULT").ok()?;
            let (kind, number) = wish.split_once(':')?;
            Some(Fault {
                kind: kind.to_string(),
                left: AtomicU64::new(number.parse().ok()?),
            })
        });
        wished.as_ref().filter(|fault| fault.kind.starts_with(kind))
    }
}

/// A file of a checkpoint, in which the process may die.
pub(crate) struct FaultyFile(pub(crate) File);

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fault) = Fault::wished("checkpoint") else {
            return self.0.write(bytes);
        };
        let left = fault.left.load(Ordering::Relaxed);
        if left <= bytes.len() as u64 {
            // What precedes the crash is in the file, as with a real one.
            self.0.write_all(&bytes[..left as usize])?;
            match fault.kind.as_str() {
                "checkpoint-panic" => panic!("injected fault"),
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

/// [`Decoder::decode`], in which a thread may panic.
pub(crate) fn decode(
    decoder: &mut Decoder,
    path: &Path,
    reuse: RgbImage,
) -> dataset::Result<RgbImage> {
    if let Some(fault) = Fault::wished("image-panic") {
        let one_less = |left: u64| left.checked_sub(1);
        let updated = fault
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        assert!(updated.is_ok(), "injected fault");
    }
    decoder.decode(path, reuse)
}
