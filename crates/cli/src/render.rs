//! Prints [`Message`]s: as lines and progress bars for people, as JSON lines for programs, or, with
//! `--quiet`, only the path of the run directory.
//!
//! Lines go to standard output. Bars and warnings go to standard error, bars only if it is a
//! terminal. If standard output is closed (`waggle train | head`), lines are discarded and training
//! continues, because its result is the run directory.

mod bars;
mod epoch_table;
pub mod format;
mod page;
mod resuming;
mod terminal;
mod time_left;

use std::io::{self, Write};

use anyhow::Context;
use indicatif::MultiProgress;

use crate::message::{Finished, Message};
pub use terminal::Terminal;

/// Shows the messages of `waggle train` in one output format.
pub trait Renderer {
    /// Prints `message` if this format includes it.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written to. A closed pipe is not an error.
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()>;

    /// The progress bars, so that other threads can print without breaking them. Empty by default.
    fn progress(&self) -> MultiProgress {
        MultiProgress::new()
    }
}

/// Prints each message as a JSON object on its own line.
pub struct JsonLines<W> {
    out: Lines<W>,
}

impl<W: Write> JsonLines<W> {
    /// Creates a renderer that prints to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: Lines::new(out),
        }
    }
}

impl<W: Write> Renderer for JsonLines<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let line = serde_json::to_string(message).context("cannot write an event as JSON")?;
        self.out.line(&line)
    }
}

/// Prints only the path of the run directory, once the run is finished.
pub struct Quiet<W> {
    out: Lines<W>,
}

impl<W: Write> Quiet<W> {
    /// Creates a renderer that prints to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: Lines::new(out),
        }
    }
}

impl<W: Write> Renderer for Quiet<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        match message {
            Message::Done(Finished { directory, .. }) | Message::AlreadyDone { directory } => {
                self.out.line(directory)
            }
            _ => Ok(()),
        }
    }
}

/// Writes lines to `out` and flushes each. Discards lines once the reader has closed the pipe.
struct Lines<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Lines<W> {
    fn new(out: W) -> Self {
        Self { out, closed: false }
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result.context("cannot write to standard output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let mut lines = Lines::new(Closed);
        lines.line("one").unwrap();
        assert!(lines.closed);
        lines.line("two").unwrap();
    }

    #[test]
    fn json_has_one_object_per_line_with_the_event_name() {
        let mut out = Vec::new();
        let message = Message::EpochStart {
            stage: "transfer",
            epoch: 1,
            epochs: 25,
            baseline: true,
        };
        JsonLines::new(&mut out).show(&message).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["event"], "epoch_start");
        assert_eq!(value["epoch"], 1);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn quiet_prints_only_the_run_directory() {
        let mut out = Vec::new();
        let mut quiet = Quiet::new(&mut out);
        quiet
            .show(&Message::Working {
                what: "x".to_string(),
            })
            .unwrap();
        let done = Message::Done(Finished {
            directory: "runs/train".to_string(),
            model: "runs/train/m".to_string(),
            files: &[],
            score: crate::metrics::Score {
                loss: 0.1,
                accuracy: 1.0,
            },
            correct: 1,
            images: 1,
            interval: [0.2, 1.0],
            worst_class: None,
            seconds: 1.0,
        });
        quiet.show(&done).unwrap();
        assert_eq!(out, b"runs/train\n");
    }
}
