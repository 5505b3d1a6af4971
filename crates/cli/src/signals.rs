//! Handling of SIGINT (Ctrl-C) and SIGTERM. The first signal stops training after the current batch
//! and writes a checkpoint. The second ends the program at once.
//!
//! Before the first checkpoint there is no progress to lose, so the first signal also ends the
//! program at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
#[cfg(unix)]
use signal_hook::consts::SIGXFSZ;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Makes writes beyond the limit on file sizes (`ulimit -f`) fail with an error, as on a full disk. By
/// default, the signal SIGXFSZ kills the program. No-op on Windows.
///
/// # Errors
///
/// Returns an error if the system rejects the handler.
pub fn survive_file_size_limit() -> anyhow::Result<()> {
    #[cfg(unix)]
    flag::register(SIGXFSZ, Arc::default()).context("cannot install a signal handler")?;
    Ok(())
}

/// State shared between the signal handlers and the program.
#[derive(Debug, Clone)]
pub struct Signals {
    at_once: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

/// A signal received by the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signals {
    /// Installs the handlers. Until [`defer`](Self::defer) is called, a signal ends the program at
    /// once.
    ///
    /// # Errors
    ///
    /// Returns an error if the system rejects a handler.
    pub fn install() -> anyhow::Result<Self> {
        let signals = Self {
            at_once: Arc::new(AtomicBool::new(true)),
            signal: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            let install = || {
                // The actions run in order of registration: exit if `at_once` is set; otherwise
                // record the signal and set `at_once` for the next one.
                let code = Signal(signal).exit_code();
                flag::register_conditional_shutdown(
                    signal,
                    i32::from(code),
                    signals.at_once.clone(),
                )?;
                flag::register_usize(signal, signals.signal.clone(), signal as usize)?;
                flag::register(signal, signals.at_once.clone())
            };
            install().context("cannot install signal handlers")?;
        }
        Ok(signals)
    }

    /// Makes the next signal only set [`pending`](Self::pending), instead of ending the program.
    pub fn defer(&self) {
        self.at_once.store(false, Ordering::SeqCst);
    }

    /// Calls `notice` on another thread when the first signal arrives.
    ///
    /// The handlers themselves can only set flags, so the thread polls.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub fn on_first(&self, notice: impl FnOnce(Signal) + Send + 'static) -> anyhow::Result<()> {
        let signals = self.clone();
        let poll = move || {
            loop {
                if let Some(signal) = signals.pending() {
                    return notice(signal);
                }
                thread::sleep(Duration::from_millis(50));
            }
        };
        let thread = thread::Builder::new().name("signals".to_string());
        thread
            .spawn(poll)
            .context("cannot start the thread that answers signals")?;
        Ok(())
    }

    /// The last signal received, if any.
    pub fn pending(&self) -> Option<Signal> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(Signal(signal as i32)),
        }
    }
}

impl Signal {
    /// Whether the signal is SIGINT, which terminals send for Ctrl-C.
    pub fn is_ctrl_c(self) -> bool {
        self.0 == SIGINT
    }

    /// The exit code that shells use: 128 plus the number of the signal, 130 or 143.
    pub fn exit_code(self) -> u8 {
        (128 + self.0) as u8
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == SIGTERM {
            "SIGTERM"
        } else {
            "SIGINT"
        })
    }
}
