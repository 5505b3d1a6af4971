//! Output of `waggle train`: [`Message`]s as lines and progress bars for people, as JSON lines for
//! programs, or, with `--quiet`, only the path of the run directory.
//!
//! Lines go to standard output. Bars and warnings go to standard error, bars only if it is a
//! terminal. If the reader closes standard output (`waggle train | head`), lines are discarded and
//! training continues, because its result is the run directory. The command fails at the end.

mod bars;
mod calibration;
mod epoch_table;
mod json;
mod message;
mod page;
mod stage_event;
pub mod table;
mod terminal;
pub mod text;
mod time_left;

use indicatif::MultiProgress;

pub use json::{JsonLines, Quiet};
pub use message::{ClassRecall, DataSet, Finished, Message, PlannedStage, WeightsReport};
pub use page::{Lines, Page};
pub use stage_event::StageEvent;
pub use terminal::Terminal;

/// Shows the messages of `waggle train` in one output format.
pub trait Renderer {
    /// Prints `message` if this format includes it.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written to. A closed pipe is not an error.
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()>;

    /// Checks that all messages were printed.
    ///
    /// # Errors
    ///
    /// Returns an error if messages were discarded, because the reader closed the pipe.
    fn finish(&self) -> anyhow::Result<()>;

    /// The progress bars, so that other threads can print without breaking them. Empty by default.
    fn progress(&self) -> MultiProgress {
        MultiProgress::new()
    }
}
