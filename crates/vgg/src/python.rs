//! Lines of Python for help texts.

use std::path::Path;

/// A call that loads the file at `path`.
pub(crate) fn load(path: &Path) -> String {
    format!(
        "torch.load({}, map_location=\"cpu\", weights_only=False)",
        quote(&path.to_string_lossy())
    )
}

/// The help that saves the value of a Python expression as a state dict.
pub(crate) fn save(expression: &str) -> String {
    format!(
        "if you trust the file, save its weights in Python: torch.save({expression}, \"weights.pth\")"
    )
}

/// A Python string literal.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_and_backslashes_is_a_python_string() {
        assert_eq!(quote("a \"b\"\\c\n.pth"), r#""a \"b\"\\c\u000a.pth""#);
        assert_eq!(
            load("C:\\x.pth".as_ref()),
            r#"torch.load("C:\\x.pth", map_location="cpu", weights_only=False)"#
        );
    }
}
