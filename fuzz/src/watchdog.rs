//! Keeps the input of the execution at hand in a file, and ends the program when one takes too long.
//!
//! Time is what the process has computed, not what has passed: on a machine that others keep busy an execution may
//! have to wait for longer than it takes.
//!
//! An abort or an endless loop leaves no chance to say what led to it; the file does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest that an execution may compute.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Watches one execution after the other.
#[derive(Debug)]
pub struct Watchdog {
    input: PathBuf,
    /// The computing time in milliseconds at which the execution at hand began; 0: there is none.
    began: Arc<AtomicU64>,
}

impl Watchdog {
    /// Keeps inputs in the file `input`.
    pub fn new(input: PathBuf) -> Self {
        let began = Arc::new(AtomicU64::new(0));
        let (watched, file) = (began.clone(), input.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let began = watched.load(Ordering::Relaxed);
                let now = computed().as_millis() as u64;
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
        Self { input, began }
    }

    /// Runs one execution; returns how long it took.
    pub fn watch<T>(&self, input: &[u8], run: impl FnOnce() -> T) -> (T, Duration) {
        // A full disk should not pass for a target's fault.
        std::fs::write(&self.input, input).expect("the input can be kept");
        let start = computed();
        let now = start.as_millis() as u64;
        self.began.store(now.max(1), Ordering::Relaxed);
        let result = run();
        self.began.store(0, Ordering::Relaxed);
        (result, computed().saturating_sub(start))
    }
}

/// How long the threads of this process have computed, together.
#[cfg(unix)]
fn computed() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on every system that this is run on, and `time` is ours to write to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } != 0;
    assert!(!failed, "there is no clock of the process");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Where that is not known, the time since the first call.
#[cfg(not(unix))]
fn computed() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
