//! Lines of output, and labeled fields and paragraphs that wrap at the width of the terminal.

use std::io::{self, Stdout, Write};

use anyhow::{Context, bail};
use console::{Style, Term};

use super::bars::Bars;
use super::text::{pad_right, printable, wrap};
use crate::error::{Diagnostic, warn};

/// Width of the labels `Data`, `Device`, … with the space after them.
const LABEL_WIDTH: usize = 9;

/// Writes lines to `out` and flushes each. Discards lines once the reader has closed the pipe.
pub struct Lines<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Lines<W> {
    /// Creates a writer of lines to `out`.
    pub fn new(out: W) -> Self {
        Self { out, closed: false }
    }

    /// Returns an error if lines were discarded.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if self.closed {
            bail!("standard output was closed before the end; training was not affected");
        }
        Ok(())
    }

    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
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

/// Prints lines to `out`, and bars and warnings to standard error.
pub struct Page<W> {
    pub(super) out: Lines<W>,
    color: bool,
    /// Width in columns at which text wraps. If `None`, as for output that is not a terminal, text
    /// does not wrap.
    columns: Option<usize>,
    pub(super) bars: Bars,
}

impl Page<Stdout> {
    /// Prints to standard output, wrapped at the width of the terminal, and in color if `console`
    /// enables it (`NO_COLOR` and `CLICOLOR_FORCE` are respected).
    pub fn stdout() -> Self {
        let columns = Term::stdout().size_checked().map(|(_, columns)| columns);
        Self {
            color: console::colors_enabled(),
            ..Self::new(io::stdout(), columns.map(usize::from))
        }
    }
}

impl<W: Write> Page<W> {
    /// Prints to `out` without color, wrapped at `columns`.
    pub fn new(out: W, columns: Option<usize>) -> Self {
        Self {
            out: Lines::new(out),
            color: false,
            columns,
            bars: Bars::new(),
        }
    }

    pub(super) fn style(&self) -> Style {
        Style::new().force_styling(self.color)
    }

    /// Prints `text`, which may contain styles, so the caller escapes the names in it.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        self.bars.clear();
        self.out.line(text)
    }

    /// Prints a wrapped paragraph of escaped text. Lines after the first are indented by `indent` columns.
    pub(super) fn paragraph(&mut self, text: &str, indent: usize) -> anyhow::Result<()> {
        let columns = self.columns.unwrap_or(usize::MAX);
        for (index, line) in wrap(text, columns - indent.min(columns)).iter().enumerate() {
            let indent = if index == 0 { 0 } else { indent };
            self.line(&format!("{}{line}", " ".repeat(indent)))?;
        }
        Ok(())
    }

    /// Prints `Label    text`, with the text escaped, aligned and wrapped.
    pub(super) fn field(&mut self, label: &str, text: &str) -> anyhow::Result<()> {
        let columns = self.columns.unwrap_or(usize::MAX);
        let label = pad_right(label, LABEL_WIDTH);
        let mut start = self.style().bold().apply_to(label).to_string();
        for line in wrap(&printable(text), columns.saturating_sub(LABEL_WIDTH)) {
            self.line(&format!("{start}{line}"))?;
            start = " ".repeat(LABEL_WIDTH);
        }
        Ok(())
    }

    pub(super) fn warn(&mut self, warning: Diagnostic) {
        self.bars.clear();
        warn(warning);
    }
}
