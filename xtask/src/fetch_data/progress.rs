//! Shows what [`fetch`](super::fetch) does: a bar on a terminal, a few plain lines elsewhere.

use super::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Draws on standard error.
pub struct Progress {
    terminal: bool,
    bar: ProgressBar,
    url: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing is drawn before the first event.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
            url: String::new(),
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Connecting { url } => {
                if self.url != url {
                    self.line(&format!("fetching {url}"));
                    self.url = url.to_owned();
                }
            }
            Event::Downloading { have, total } => {
                if have > 0 {
                    self.line(&format!("going on after {have} bytes"));
                }
                let style = match total {
                    Some(_) => {
                        "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
                    }
                    None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}",
                };
                self.start(total, style, have);
            }
            Event::Received { bytes } => self.bar.inc(bytes),
            Event::Retrying { reason, pause } => {
                self.line(&format!(
                    "{reason}; trying again in {:.0} s",
                    pause.as_secs_f64()
                ));
            }
            Event::StartingAfresh { reason } => {
                self.line(&format!("{reason}\nstarting afresh"));
            }
            Event::Unpacking { files } => {
                if !self.terminal {
                    self.line(&format!("unpacking and checking {files} files"));
                }
                self.start(
                    Some(files as u64),
                    "{bar:30} {pos}/{len} files unpacked and checked",
                    0,
                );
            }
            Event::Unpacked => self.bar.inc(1),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }

    fn start(&mut self, length: Option<u64>, style: &str, position: u64) {
        self.finish();
        if !self.terminal {
            return;
        }
        // Speed and time left are about what is still to come, so the start is noted, undrawn, before
        // the clock runs.
        self.bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden())
            .with_position(position);
        self.bar.tick();
        self.bar.reset_eta();
        self.bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
    }

    fn line(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}
