//! A deliberate crash, for the tests: `WAGGLE_FAULT=checkpoint:BYTES` ends the process, as `kill -9` would, once it
//! has written that many bytes of checkpoints in all. Without the variable nothing here does anything.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file in which the process may die.
pub(super) struct Fragile(pub(super) File);

impl Write for Fragile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes_left() {
            Some(left) if left.load(Ordering::Relaxed) <= bytes.len() as u64 => {
                // What precedes the crash is in the file, as with a real one.
                self.0
                    .write_all(&bytes[..left.load(Ordering::Relaxed) as usize])?;
                std::process::abort();
            }
            left => {
                let written = self.0.write(bytes)?;
                if let Some(left) = left {
                    left.fetch_sub(written as u64, Ordering::Relaxed);
                }
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// How many bytes may still be written; `None` for any number.
fn bytes_left() -> Option<&'static AtomicU64> {
    static LEFT: OnceLock<Option<AtomicU64>> = OnceLock::new();
    let left = LEFT.get_or_init(|| {
        let fault = std::env::var("WAGGLE_FAULT").ok()?;
        let bytes = fault.strip_prefix("checkpoint:")?.parse().ok()?;
        Some(AtomicU64::new(bytes))
    });
    left.as_ref()
}
