//! Messages of panics: from a caught panic, and as printed on standard error.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::thread;

use crate::error;
use crate::escape::printable;

/// The message of a caught panic, or `None` if its payload is not a string.
pub fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Replaces the report of panics on standard error by one that escapes the message, which may
/// contain a name from a file. Panics of decoders, which become errors of their images, are reported
/// only with a backtrace.
pub fn escape_reports() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
        if dataset::decode::is_decoding() && !has_backtrace {
            return;
        }
        let thread = thread::current();
        let name = printable(thread.name().unwrap_or("unnamed"));
        let at = panic
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        let message = printable(panic_message(panic.payload()).unwrap_or("no message"));
        error::print(&format!("thread '{name}' panicked{at}:\n{message}\n"));
        if has_backtrace {
            error::print(&format!("{backtrace}\n"));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literal_and_formatted_messages_are_read() {
        let message = |panic: fn()| {
            let payload = std::panic::catch_unwind(panic).unwrap_err();
            panic_message(payload.as_ref()).map(str::to_owned)
        };
        assert_eq!(message(|| panic!("literal")).as_deref(), Some("literal"));
        let formatted = || panic!("number {}", "7".parse::<u8>().unwrap());
        assert_eq!(message(formatted).as_deref(), Some("number 7"));
        assert_eq!(message(|| std::panic::panic_any(7)), None);
    }
}
