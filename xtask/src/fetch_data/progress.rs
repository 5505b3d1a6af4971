//! Prints the progress of [`fetch`](super::fetch): a bar on a terminal, plain lines otherwise.

use super::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Prints progress to standard error.
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
    /// Creates a progress display, which is empty until the first event.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
            url: String::new(),
        }
    }

    /// Displays one event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Connecting { url } => {
                if self.url != url {
                    self.line(&format!("downloading {url}"));
                    self.url = url.to_owned();
                }
            }
            Event::Downloading { received, total } => {
                if received > 0 {
                    self.line(&format!("resuming after {received} bytes"));
                }
                let style = match total {
                    Some(_) => {
                        "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
                    }
                    None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}",
                };
                self.start(total, style, received);
            }
            Event::Received { bytes } => self.bar.inc(bytes),
            Event::Retrying { reason, pause } => {
                self.line(&format!(
                    "{reason}; retrying in {:.0} s",
                    pause.as_secs_f64()
                ));
            }
            Event::Restarting { reason } => {
                self.line(&format!("{reason}\nstarting the download over"));
            }
            Event::Unpacking { files } => {
                if !self.terminal {
                    self.line(&format!("unpacking and verifying {files} files"));
                }
                self.start(
                    Some(files as u64),
                    "{bar:30} {pos}/{len} files unpacked and verified",
                    0,
                );
            }
            Event::Unpacked => self.bar.inc(1),
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }

    fn start(&mut self, length: Option<u64>, style: &str, position: u64) {
        self.finish();
        if !self.terminal {
            return;
        }
        // The speed and the remaining time must not count bytes from earlier requests. The initial
        // position is therefore set on a hidden bar, before the estimate is reset.
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
