//! Errors and warnings as shown to the user, in the style of cargo.
//!
//! ```text
//! error: cannot decode 2 of 36 images
//!   data/train/vertical/00.png: unexpected end of file
//!   data/train/vertical/07.png: unexpected end of file
//! help: replace or remove the files, or pass `--on-bad skip` to skip them
//! ```
//!
//! The libraries state facts; only this crate names flags. A [`Diagnostic`] can carry a help line, and
//! [`report`] looks up the help for library errors.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use console::{Style, StyledObject};

use crate::shell::quote;

/// An error or a warning, with the items it concerns and the command or flag that helps.
///
/// Return an error with `bail!(Diagnostic::new("…").help("…"))`, or wrap another error in it:
/// `.map_err(|error| Diagnostic::new("…").caused_by(error))`. Print a warning with [`warn`].
#[derive(Debug, Default)]
pub struct Diagnostic {
    message: String,
    items: Vec<String>,
    help: Option<String>,
    source: Option<anyhow::Error>,
}

impl Diagnostic {
    /// Creates a diagnostic whose first line is `error: MESSAGE` or `warning: MESSAGE`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// Adds lines below the message, one for each item.
    pub fn items(mut self, items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.items.extend(items.into_iter().map(Into::into));
        self
    }

    /// Sets the `help:` line, which takes precedence over the help of the causes.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the underlying error, printed under `Caused by:` unless the message contains its text.
    pub fn caused_by(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Diagnostic {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + Send + Sync) = self.source.as_ref()?.as_ref();
        Some(source)
    }
}

/// Prints `error` on standard error, with its items, causes and help.
pub fn report(error: &anyhow::Error) {
    let style = Style::new().for_stderr().red().bold();
    print(&render(error, &style.apply_to("error:")));
}

/// Prints a warning on standard error.
pub fn warn(warning: Diagnostic) {
    let style = Style::new().for_stderr().yellow().bold();
    print(&render(&warning.into(), &style.apply_to("warning:")));
}

/// Prints text on standard error. Failures are ignored.
pub fn print(text: &str) {
    // If standard error is closed, there is nowhere to report the failure.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn render(error: &anyhow::Error, label: &StyledObject<&str>) -> String {
    let mut text = format!("{label} {error}\n");
    let mut help = None;
    let mut last = error.to_string();
    let mut has_causes = false;
    for (depth, cause) in error.chain().enumerate() {
        let message = cause.to_string();
        let mut indent = "  ";
        // Transparent wrappers repeat the message of their source.
        if depth > 0 && !last.contains(&message) {
            if !has_causes {
                text.push_str("Caused by:\n");
                has_causes = true;
            }
            push_lines(&mut text, indent, &message);
            indent = "    ";
        }
        for item in items(cause) {
            push_lines(&mut text, indent, &item);
        }
        help = help.or_else(|| help_for(cause));
        last = message;
    }
    push_help(&mut text, help.as_deref());
    text
}

fn push_lines(text: &mut String, indent: &str, lines: &str) {
    for line in lines.lines() {
        text.push_str(format!("{indent}{line}").trim_end());
        text.push('\n');
    }
}

fn push_help(text: &mut String, help: Option<&str>) {
    if let Some(help) = help {
        let label = Style::new().for_stderr().cyan().bold();
        text.push_str(&format!("{} {help}\n", label.apply_to("help:")));
    }
}

/// The items of one error in the chain of causes. Only a [`Diagnostic`] has items.
fn items(cause: &(dyn Error + 'static)) -> Vec<String> {
    match cause.downcast_ref::<Diagnostic>() {
        Some(error) => error.items.clone(),
        None => Vec::new(),
    }
}

/// The help for one error in the chain of causes: the help line of a [`Diagnostic`], or advice for
/// a library error or exhausted memory.
fn help_for(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Diagnostic>() {
        return error.help.clone();
    }
    if let Some(error) = cause.downcast_ref::<dataset::Error>() {
        return match error {
            dataset::Error::BadImages { errors, .. } => {
                let (remedy, them) = match &errors[..] {
                    [error] => (error.help(), "it"),
                    _ => (Some("replace or remove the files".to_string()), "them"),
                };
                let remedy = remedy.unwrap_or_else(|| "replace or remove the file".to_string());
                Some(format!("{remedy}, or pass `--on-bad skip` to skip {them}"))
            }
            error => error.help(),
        };
    }
    if let Some(error) = cause.downcast_ref::<sample::Error>() {
        return error.help();
    }
    if let Some(error) = cause.downcast_ref::<vgg::hub::FetchError>() {
        let instead = "offline, use `--weights FILE` or the built-in `--weights sample`";
        return Some(match error.is_local() {
            true => error.help(),
            false => format!("{}; {instead}", error.help()),
        });
    }
    if let Some(error) = cause.downcast_ref::<vgg::Error>() {
        return match error {
            vgg::Error::WrongArchitecture {
                expected, actual, ..
            } => Some(format!(
                "pass `--arch {actual}`, or use weights of {expected}"
            )),
            vgg::Error::NoMetadata { path } => Some(format!(
                "train a model from these weights with `waggle train --weights {}`",
                quote(&path.display().to_string())
            )),
            error => error.help(),
        };
    }
    // CUDA's message is CUDA_ERROR_OUT_OF_MEMORY.
    let message = cause.to_string().to_lowercase().replace('_', " ");
    if message.contains("out of memory") {
        return Some("pass a smaller `--batch-size`".to_string());
    }
    cause.downcast_ref::<trainer::Error>()?.help()
}

/// The text printed by [`report`], without colors.
#[cfg(test)]
pub(crate) fn plain(error: &anyhow::Error) -> String {
    let label = Style::new().apply_to("error:");
    console::strip_ansi_codes(&render(error, &label)).into_owned()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_has_items_causes_and_one_help_line() {
        let inner = Diagnostic::new("inner")
            .items(["one", "two"])
            .help("inner help");
        let outer = Diagnostic::new("outer").help("outer help").caused_by(inner);
        assert_eq!(
            plain(&outer.into()),
            "error: outer\nCaused by:\n  inner\n    one\n    two\nhelp: outer help\n"
        );
    }

    #[test]
    fn the_help_of_a_cause_is_used_when_the_error_has_none() {
        let inner = Diagnostic::new("inner").help("inner help");
        let error = anyhow::Error::new(inner).context("outer");
        assert_eq!(
            plain(&error),
            "error: outer\nCaused by:\n  inner\nhelp: inner help\n"
        );
    }

    #[test]
    fn a_message_that_repeats_its_cause_is_printed_once() {
        let cause = Err::<(), _>(io::Error::other("disk full"));
        let error = cause.context("cannot write x: disk full").unwrap_err();
        assert_eq!(plain(&error), "error: cannot write x: disk full\n");
    }

    #[test]
    fn the_help_of_a_library_error_names_the_flag() {
        let bad = |name: &str| dataset::Error::Decode {
            path: name.into(),
            reason: "unexpected end of file".to_string(),
        };
        let error = dataset::Error::BadImages {
            errors: vec![bad("a.png"), bad("b.png")],
            checked: 36,
        };
        assert_eq!(
            plain(&error.into()),
            "error: cannot decode 2 of 36 images\n  \
               a.png: unexpected end of file\n  \
               b.png: unexpected end of file\n\
             help: replace or remove the files, or pass `--on-bad skip` to skip them\n"
        );
        let error = vgg::Error::WrongArchitecture {
            path: "w.safetensors".into(),
            expected: "vgg16".to_string(),
            actual: "vgg19".to_string(),
        };
        let help = "help: pass `--arch vgg19`, or use weights of vgg16\n";
        assert!(plain(&error.into()).ends_with(help));
        let error = anyhow::anyhow!("CUDA_ERROR_OUT_OF_MEMORY").context("cannot compute");
        assert!(plain(&error).ends_with("help: pass a smaller `--batch-size`\n"));
    }

    #[test]
    fn lines_of_a_cause_are_indented() {
        let cause = Err::<(), _>(io::Error::other("first\n\nsecond"));
        let error = cause.context("outer").unwrap_err();
        assert_eq!(
            plain(&error),
            "error: outer\nCaused by:\n  first\n\n  second\n"
        );
    }
}
