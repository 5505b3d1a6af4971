//! What people read about checkpoints and going on from them.

use crate::message::Message;
use crate::words::{counted, quoted};

/// The line for one of these messages. A checkpoint that is made is nothing to read about.
pub(super) fn line(message: &Message<'_>) -> Option<String> {
    Some(match message {
        Message::DamagedCheckpoint { file, reason } => {
            format!("Damaged: {file} ({reason}); it is not used")
        }
        Message::Resumed {
            file,
            stage,
            epoch,
            batches,
        } => {
            let batches = counted(*batches, "batch");
            format!("Going on from {file}: stage {stage}, epoch {epoch}, {batches} done")
        }
        Message::ChangedData { changes } => {
            format!("The pictures are not those that the run began with:\n{changes}")
        }
        Message::AlreadyDone { directory } => {
            format!("The run {directory} is done already; there is nothing to resume")
        }
        Message::Interrupted { signal, directory } => format!(
            "\nStopped by {signal}; nothing is lost. To go on: waggle train --resume {}",
            quoted(directory)
        ),
        _ => return None,
    })
}
