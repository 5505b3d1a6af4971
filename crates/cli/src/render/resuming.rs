//! Text of the messages about resuming a run.

use crate::message::Message;
use crate::shell::quote;
use crate::text::pluralize;

/// The text of [`Message::Resumed`], [`Message::AlreadyDone`] or [`Message::Interrupted`]. `None` for
/// other messages.
pub(super) fn text(message: &Message<'_>) -> Option<String> {
    Some(match message {
        Message::Resumed {
            file,
            stage,
            epoch,
            batches,
        } => format!(
            "Resuming from {file}: stage {stage}, epoch {epoch}, {} done",
            pluralize(*batches, "batch")
        ),
        Message::AlreadyDone { directory } => {
            format!("The run {directory} is already finished; there is nothing to resume")
        }
        Message::Interrupted { signal, directory } => format!(
            "\nStopped by {signal}. Nothing is lost; to resume:\n  waggle train --resume {}",
            quote(directory)
        ),
        _ => return None,
    })
}
