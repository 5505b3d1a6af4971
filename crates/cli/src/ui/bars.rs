//! Progress bars on standard error.

use std::io;
use std::time::Duration;

use console::Term;
use indicatif::{
    MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike,
};

use crate::escape::printable;

/// Minimum width of the terminal, in columns, at which the bar of a phase shows the loss.
const COLUMNS_FOR_LOSS: u16 = 80;
/// Maximum number of redraws per second.
const REFRESH_RATE: u8 = 20;

/// The progress bars, of which at most one is shown at a time. Nothing is drawn if standard error
/// is not a terminal.
pub(super) struct Bars {
    all: MultiProgress,
    current: Option<ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let term = Term::buffered_stderr();
        let target = if term.is_term() {
            ProgressDrawTarget::term_like_with_hz(Box::new(Margin(term)), REFRESH_RATE)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            current: None,
        }
    }

    /// A handle that lets other threads print without breaking the bar.
    pub(super) fn handle(&self) -> MultiProgress {
        self.all.clone()
    }

    /// Removes the current bar, if any.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    /// Starts the bar of a train or val phase over `images`.
    pub(super) fn start_phase(&mut self, name: String, images: u64) {
        let per_second = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to indicatif's buffer cannot fail.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        let columns = Term::stderr().size_checked().map(|(_, columns)| columns);
        let style = match columns {
            Some(..COLUMNS_FOR_LOSS) => {
                style("{prefix} {wide_bar:.cyan/black.bright} {pos}/{len}  {per_sec}  {eta} left")
            }
            _ => style(
                "{prefix} {wide_bar:.cyan/black.bright} {pos}/{len}  {per_sec}  {eta} left  {msg}",
            ),
        };
        let style = style.with_key("per_sec", per_second);
        self.start(ProgressBar::new(images).with_style(style).with_prefix(name));
    }

    /// Updates the bar of a phase with the number of images done and their mean loss.
    pub(super) fn set_phase(&self, images: u64, loss: f64) {
        if let Some(bar) = &self.current {
            bar.set_message(format!("loss {}", super::text::loss(loss)));
            bar.set_position(images);
        }
    }

    /// Starts or updates the bar of a download. `done` and `total` are in bytes. A `total` that differs
    /// from the length of the current bar starts a new one.
    pub(super) fn set_download(&mut self, what: &str, done: u64, total: u64) {
        if self.current.as_ref().and_then(ProgressBar::length) != Some(total) {
            let style = style(
                "{prefix} {wide_bar:.cyan/black.bright} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            );
            let bar = ProgressBar::new(total).with_style(style);
            self.start(bar.with_prefix(printable(what).into_owned()));
        }
        if let Some(bar) = &self.current {
            bar.set_position(done);
        }
    }

    /// Starts a spinner for an operation of unknown length.
    pub(super) fn start_spinner(&mut self, what: &str) {
        let what = printable(what).into_owned();
        self.start(ProgressBar::new_spinner().with_message(what));
    }

    fn start(&mut self, bar: ProgressBar) {
        self.clear();
        let bar = self.all.add(bar);
        // The tick needs a thread.
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.current = Some(bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are valid")
        .progress_chars("━━╌")
}

/// A terminal with a margin on the right.
///
/// indicatif fills lines to the edge of the terminal. Without the margin, the `^C` that terminals
/// print on Ctrl-C would wrap to a new line, and indicatif could not clear the bar above it.
#[derive(Debug)]
struct Margin(Term);

impl Margin {
    const COLUMNS: u16 = 3;
}

impl TermLike for Margin {
    fn width(&self) -> u16 {
        self.0.size().1.saturating_sub(Self::COLUMNS)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_all_bars_are_valid() {
        let mut bars = Bars::new();
        for done in [0, 500, 1000] {
            bars.set_download("timm/vgg16.tv_in1k", done, 1000);
        }
        bars.start_spinner("decoding 397 images");
        bars.start_phase("2/25 train".to_string(), 244);
        bars.set_phase(32, 0.5);
        bars.clear();
    }
}
