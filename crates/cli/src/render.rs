//! Draws [`Message`]s: lines and progress bars for people, JSON lines for programs, or hardly anything.
//!
//! Lines go to standard output, bars to standard error and only when that is a terminal. When nobody reads
//! standard output any more (`waggle train | head`), training goes on in silence: its result is the run
//! directory, and an hour of work should not end for a closed pipe.

mod resuming;
mod terminal;

use std::io::{self, Write};

use anyhow::Context;

use crate::message::Message;
pub use terminal::Terminal;

/// Something that draws messages.
pub trait Renderer {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to for another reason than that nobody reads it.
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()>;
}

/// One JSON object a line.
pub struct JsonLines<W> {
    out: Lines<W>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`.
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

/// Nothing but where the run is, at the end.
pub struct Quiet<W> {
    out: Lines<W>,
}

impl<W: Write> Quiet<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: Lines::new(out),
        }
    }
}

impl<W: Write> Renderer for Quiet<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        match message {
            Message::Done { directory, .. } | Message::AlreadyDone { directory } => {
                self.out.line(directory)
            }
            _ => Ok(()),
        }
    }
}

/// Writes lines until nobody reads them.
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
    fn an_event_is_one_json_object_with_its_kind() {
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
    fn quiet_says_only_where_the_run_is() {
        let mut out = Vec::new();
        let mut quiet = Quiet::new(&mut out);
        quiet
            .show(&Message::Working {
                what: "x".to_string(),
            })
            .unwrap();
        let score = crate::metrics::Score {
            loss: 0.1,
            accuracy: 1.0,
        };
        let done = Message::Done {
            directory: "runs/train".to_string(),
            model: "runs/train/m".to_string(),
            score,
        };
        quiet.show(&done).unwrap();
        assert_eq!(out, b"runs/train\n");
    }
}
