//! Keeps the input of the execution at hand on disk, and ends the program when one takes too long.
//!
//! An abort or an endless loop leaves no chance to say what led to it; the file does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that an execution may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Watches one execution after the other.
#[derive(Debug)]
pub struct Watchdog {
    input: PathBuf,
    start: Instant,
    /// Milliseconds after `start` when the execution at hand began; 0: there is none.
    began: Arc<AtomicU64>,
}

impl Watchdog {
    /// Keeps inputs in the file `input`.
    pub fn new(input: PathBuf) -> Self {
        let (start, began) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (watched, file) = (began.clone(), input.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let began = watched.load(Ordering::Relaxed);
                let now = start.elapsed().as_millis() as u64;
                if began != 0 && now.saturating_sub(began) > LIMIT.as_millis() as u64 {
                    eprintln!(
                        "an execution takes more than {} s: {}",
                        LIMIT.as_secs(),
                        file.display()
                    );
                    std::process::exit(1);
                }
            }
        });
        Self {
            input,
            start,
            began,
        }
    }

    /// Runs one execution; returns how long it took.
    pub fn watch<T>(&self, input: &[u8], run: impl FnOnce() -> T) -> (T, Duration) {
        // A full disk should not pass for a target's fault.
        std::fs::write(&self.input, input).expect("the input can be kept");
        let start = Instant::now();
        let now = self.start.elapsed().as_millis() as u64;
        self.began.store(now.max(1), Ordering::Relaxed);
        let result = run();
        self.began.store(0, Ordering::Relaxed);
        (result, start.elapsed())
    }
}
