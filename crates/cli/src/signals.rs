//! SIGINT (Ctrl-C) and SIGTERM: the first asks the training to stop where it can go on later, the second ends the
//! program at once.
//!
//! While nothing can be lost, before the first checkpoint and after the last, the first ends it at once too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What the handlers share with the program.
#[derive(Debug, Clone)]
pub struct Signals {
    at_once: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

/// A signal that asked the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signals {
    /// Installs the handlers; until [`defer`](Self::defer), a signal ends the program at once.
    ///
    /// # Errors
    ///
    /// When the system refuses them.
    pub fn install() -> anyhow::Result<Self> {
        let caught = Self {
            at_once: Arc::new(AtomicBool::new(true)),
            signal: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            let install = || {
                // They act in this order: leave if this is the second one, else note that it was the first.
                let code = Signal(signal).exit_code();
                flag::register_conditional_shutdown(
                    signal,
                    i32::from(code),
                    caught.at_once.clone(),
                )?;
                flag::register_usize(signal, caught.signal.clone(), signal as usize)?;
                flag::register(signal, caught.at_once.clone())
            };
            install().context("cannot install the handlers of signals")?;
        }
        Ok(caught)
    }

    /// From now on, the first signal only shows in [`pending`](Self::pending).
    pub fn defer(&self) {
        self.at_once.store(false, Ordering::SeqCst);
    }

    /// Calls `notice` on another thread when the first signal arrives.
    ///
    /// The handlers themselves can only set flags, so the thread polls.
    pub fn on_first(&self, notice: impl FnOnce(Signal) + Send + 'static) {
        let signals = self.clone();
        std::thread::spawn(move || {
            loop {
                if let Some(signal) = signals.pending() {
                    return notice(signal);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// The signal that asks to stop.
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

    /// 128 and the number of the signal, as shells have it: 130 or 143.
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
