//! Messages about checkpoints and resuming.

use crate::message::Message;
use crate::words::{counted, quoted};

/// The text of a message, or `None` if it is about something else. Checkpoints are written silently.
pub(super) fn text(message: &Message<'_>) -> Option<String> {
    Some(match message {
        Message::Resumed {
            file,
            stage,
            epoch,
            batches,
        } => format!(
            "Resuming from {file}: stage {stage}, epoch {epoch}, {} done",
            counted(*batches, "batch")
        ),
        Message::AlreadyDone { directory } => {
            format!("The run {directory} is already finished; there is nothing to resume")
        }
        Message::Interrupted { signal, directory } => format!(
            "\nStopped by {signal}. Nothing is lost; to resume:\n  waggle train --resume {}",
            quoted(directory)
        ),
        _ => return None,
    })
}
