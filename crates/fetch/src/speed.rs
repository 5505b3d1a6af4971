//! The minimum speed of a transfer.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Minimum speed of a transfer in bytes per second, on average over
/// [`Config::idle_timeout`](crate::Config::idle_timeout).
///
/// Without it, a server that sends one byte before each timeout would keep a download alive forever.
pub const MIN_SPEED: u64 = 1000;

/// Whether `bytes` in `time` is at least [`MIN_SPEED`].
pub(crate) fn is_fast_enough(bytes: u64, time: Duration) -> bool {
    bytes as f64 >= MIN_SPEED as f64 * time.as_secs_f64()
}

/// A reader that fails once less than [`MIN_SPEED`] arrives in a `window` of time.
pub(crate) struct MinSpeed<R> {
    reader: R,
    window: Duration,
    start: Instant,
    bytes: u64,
}

impl<R> MinSpeed<R> {
    pub(crate) fn new(reader: R, window: Duration) -> Self {
        Self {
            reader,
            window,
            start: Instant::now(),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for MinSpeed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        let time = self.start.elapsed();
        if count > 0 && time >= self.window {
            if !is_fast_enough(self.bytes, time) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            (self.start, self.bytes) = (Instant::now(), 0);
        }
        Ok(count)
    }
}
