//! Extracts the message from a caught panic.

use std::any::Any;

/// The message of a caught panic, or `None` if its payload is not a string.
pub fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
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
