//! Exits if an execution takes too long, and stores the input of each execution in a file.
//!
//! The file contains the input of the current execution, so it shows which input made the program
//! abort or exceed the time limit.
//!
//! The limit applies to CPU time instead of elapsed time, because an execution may wait a long time
//! for a CPU on a busy machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Maximum CPU time of an execution.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Runs executions with a time limit.
#[derive(Debug)]
pub struct Watchdog {
    input: PathBuf,
    /// CPU time in milliseconds at the start of the current execution, or 0 if there is none.
    start: Arc<AtomicU64>,
}

impl Watchdog {
    /// Starts the thread that checks the time limit. Inputs are stored in the file `input`.
    pub fn new(input: PathBuf) -> Self {
        let start = Arc::new(AtomicU64::new(0));
        let (watched, file) = (start.clone(), input.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let start = watched.load(Ordering::Relaxed);
                let now = cpu_time().as_millis() as u64;
                if start != 0 && now.saturating_sub(start) > LIMIT.as_millis() as u64 {
                    eprintln!(
                        "error: an execution took more than {} s: {}",
                        LIMIT.as_secs(),
                        file.display()
                    );
                    std::process::exit(1);
                }
            }
        });
        Self { input, start }
    }

    /// Runs one execution. Returns its result and CPU time.
    pub fn watch<T>(&self, input: &[u8], run: impl FnOnce() -> T) -> (T, Duration) {
        std::fs::write(&self.input, input).expect("cannot write the current input");
        let start = cpu_time();
        let now = start.as_millis() as u64;
        self.start.store(now.max(1), Ordering::Relaxed);
        let result = run();
        self.start.store(0, Ordering::Relaxed);
        (result, cpu_time().saturating_sub(start))
    }
}

/// CPU time of all threads of this process.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid `timespec` that nothing else accesses during the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } != 0;
    assert!(!failed, "cannot read the CPU time of the process");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Elapsed time since the first call, as a substitute for the CPU time.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
