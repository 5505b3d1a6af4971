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
//!
//! Messages contain names of files, classes and tensors, so every message, item and help line is
//! escaped with [`printable`]: a name with a line break cannot forge another error.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use console::{Style, StyledObject};
use vgg::kernels::UnknownIsa;

use crate::decode_limits::{BYTES_PER_PIXEL, MAX_PIXELS};
use crate::escape::{printable, printable_path};
use crate::shell::quote;

/// Maximum number of images that cannot be decoded in an error.
const MAX_BAD_IMAGES: usize = 10;

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
    let mut last = message(error.as_ref());
    let mut text = format!("{label} {last}\n");
    let mut help = None;
    let mut has_causes = false;
    for (depth, cause) in error.chain().enumerate() {
        let full = message(cause);
        // A cause such as `cannot write x: disk full` repeats the message `cannot write x`.
        let rest = full
            .strip_prefix(&last)
            .and_then(|rest| rest.strip_prefix(": "));
        let message = rest.unwrap_or(&full);
        let mut indent = "  ";
        // Transparent wrappers repeat the message of their source.
        if depth > 0 && !last.contains(message) {
            if !has_causes {
                text.push_str("Caused by:\n");
                has_causes = true;
            }
            text.push_str(&format!("{indent}{message}\n"));
            indent = "    ";
        }
        for item in items(cause) {
            text.push_str(&format!("{indent}{}\n", printable(&item)));
        }
        help = help.or_else(|| help_for(cause));
        last = full;
    }
    push_help(&mut text, help.as_deref());
    text
}

/// The message of one error in the chain of causes, on one line.
fn message(cause: &(dyn Error + 'static)) -> String {
    let text = cause.to_string();
    let text = if let Some(error) = cause.downcast_ref::<toml::de::Error>() {
        // The lines after the first quote the file.
        match text.split_once('\n') {
            Some((position, _)) => format!("{position}: {}", error.message()),
            None => text,
        }
    } else if let Some(error) = cause.downcast_ref::<dataset::Error>() {
        match (error, error.path()) {
            // The other lines list the images, which are items here.
            (dataset::Error::BadImages { .. }, _) => text.lines().next().unwrap_or_default().into(),
            // The message has U+FFFD for bytes that are not UTF-8.
            (_, Some(path)) => text.replace(&*path.to_string_lossy(), &printable_path(path)),
            (_, None) => text,
        }
    } else if std::env::var_os("RUST_BACKTRACE").is_some() {
        return with_frames(&text);
    } else {
        text
    };
    printable(&text).into()
}

/// Escapes `text`, but keeps the lines of the backtrace that candle appends to its messages if
/// `RUST_BACKTRACE` is set.
fn with_frames(text: &str) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        let number = line
            .split_once(": ")
            .map(|(number, _)| number.parse::<u32>());
        line.starts_with("at ") || matches!(number, Some(Ok(_)))
    };
    let mut lines = text.split('\n');
    let mut escaped = printable(lines.next().unwrap_or_default()).into_owned();
    for line in lines {
        escaped.push_str(if is_frame(line) { "\n    " } else { r"\n" });
        escaped.push_str(&printable(line));
    }
    escaped
}

fn push_help(text: &mut String, help: Option<&str>) {
    if let Some(help) = help {
        let label = Style::new().for_stderr().cyan().bold();
        text.push_str(&format!(
            "{} {}\n",
            label.apply_to("help:"),
            printable(help)
        ));
    }
}

/// The items of one error in the chain of causes: those of a [`Diagnostic`], or the images that
/// cannot be decoded.
fn items(cause: &(dyn Error + 'static)) -> Vec<String> {
    if let Some(error) = cause.downcast_ref::<Diagnostic>() {
        return error.items.clone();
    }
    match cause.downcast_ref::<dataset::Error>() {
        Some(dataset::Error::BadImages { errors, .. }) => bad_images(errors),
        _ => Vec::new(),
    }
}

/// A line for each image that cannot be decoded, up to [`MAX_BAD_IMAGES`].
fn bad_images(errors: &[dataset::Error]) -> Vec<String> {
    let line = |error: &dataset::Error| match error.path() {
        Some(path) => {
            // The help line has the remedy of a single error.
            let reason = match errors.len() {
                1 => error.fact(),
                _ => error.reason(),
            };
            format!("{}: {reason}", printable_path(path))
        }
        None => error.to_string(),
    };
    let mut lines: Vec<String> = errors.iter().take(MAX_BAD_IMAGES).map(line).collect();
    if errors.len() > MAX_BAD_IMAGES {
        let more = errors.len() - MAX_BAD_IMAGES;
        lines.push(format!("and {more} more; `waggle check --json` lists all"));
    }
    lines
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
                let flag = max_pixels(errors)
                    .map_or_else(String::new, |n| format!(", pass `--max-pixels {n}`"));
                Some(format!(
                    "{remedy}{flag}, or pass `--on-bad skip` to skip {them}"
                ))
            }
            // The library also loads without workers, but the commands do not.
            dataset::Error::Spawn(_) => Some("pass a smaller value for `--workers`".into()),
            error => match (error.help(), max_pixels(std::slice::from_ref(error))) {
                (Some(remedy), Some(n)) => Some(format!("{remedy}, or pass `--max-pixels {n}`")),
                (help, _) => help,
            },
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
                quote(path)
            )),
            error => error.help(),
        };
    }
    if cause.downcast_ref::<UnknownIsa>().is_some() {
        return Some("unset WAGGLE_KERNELS to use the fastest instruction set".to_string());
    }
    // CUDA's message is CUDA_ERROR_OUT_OF_MEMORY.
    let message = cause.to_string().to_lowercase().replace('_', " ");
    if message.contains("out of memory") {
        return Some("pass a smaller `--batch-size`".to_string());
    }
    cause.downcast_ref::<trainer::Error>()?.help()
}

/// The value of `--max-pixels` for which the images in `errors` that exceed a limit can be decoded.
fn max_pixels(errors: &[dataset::Error]) -> Option<u64> {
    let default = dataset::DecodeOptions::default().max_pixels as u64;
    let needed = errors.iter().filter_map(|error| match error {
        dataset::Error::TooManyPixels { width, height, .. } => {
            Some((*width as u64).saturating_mul(*height as u64))
        }
        // Only limits above the default allow more memory.
        dataset::Error::TooMuchMemory { needed: bytes, .. }
        | dataset::Error::FileTooLarge { bytes, .. } => {
            Some(bytes.div_ceil(BYTES_PER_PIXEL).max(default + 1))
        }
        _ => None,
    });
    needed.max().filter(|&pixels| pixels <= MAX_PIXELS as u64)
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
        let cause = Err::<(), _>(io::Error::other("cannot write x: disk full"));
        let error = cause.context("cannot write x").unwrap_err();
        assert_eq!(
            plain(&error),
            "error: cannot write x\nCaused by:\n  disk full\n"
        );
    }

    #[test]
    fn the_help_of_a_thread_that_cannot_start_names_only_values_that_the_flag_accepts() {
        let error = dataset::Error::Spawn(io::Error::other("limit"));
        let text = plain(&error.into());
        assert!(
            text.ends_with("help: pass a smaller value for `--workers`\n"),
            "{text}"
        );
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
        let many = dataset::Error::BadImages {
            errors: (0..13)
                .map(|number| bad(&format!("{number}.png")))
                .collect(),
            checked: 36,
        };
        let end = "  9.png: unexpected end of file\n  and 3 more; `waggle check --json` lists all\nhelp: ";
        assert!(plain(&many.into()).contains(end));
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
    fn a_name_cannot_forge_a_line_or_control_the_terminal() {
        let name = "x\nerror: all is lost\u{1b}[2J\r";
        let escaped = r"x\nerror: all is lost\x1b[2J\r";
        let cause = io::Error::other(format!("cause {name}"));
        let error = Diagnostic::new(name)
            .items([name])
            .help(name)
            .caused_by(cause);
        assert_eq!(
            plain(&error.into()),
            format!(
                "error: {escaped}\n  {escaped}\nCaused by:\n  cause {escaped}\nhelp: {escaped}\n"
            )
        );
        let bad = dataset::Error::BadImages {
            errors: vec![dataset::Error::Truncated { path: name.into() }],
            checked: 2,
        };
        assert!(plain(&bad.into()).starts_with(&format!(
            "error: cannot decode 1 of 2 images\n  {escaped}: the file is truncated\nhelp: "
        )));
    }

    #[test]
    fn only_frames_of_a_backtrace_start_lines() {
        let text = "no x\nerror: all is lost\n   0: candle::get\n             at lib.rs:7";
        assert_eq!(
            with_frames(text),
            "no x\\nerror: all is lost\n       0: candle::get\n                 at lib.rs:7"
        );
    }

    #[test]
    fn a_toml_error_is_one_line() {
        let error = toml::from_str::<toml::Table>("a = 1\n[data").unwrap_err();
        let text = plain(&anyhow::Error::new(error).context("cannot parse x"));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("at line 2, column 6: "), "{text}");
    }
}
