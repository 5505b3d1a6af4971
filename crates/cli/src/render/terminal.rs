//! The notebook's lines, and one bar for each pass while it runs.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Lines, Renderer, resuming};
use crate::message::Message;
use crate::words::{counted, quoted};

/// Lines for people.
pub struct Terminal<W> {
    out: Lines<W>,
    bar: Option<ProgressBar>,
    /// Of the stage that runs.
    epochs: u64,
    train_pictures: u64,
    val_pictures: u64,
}

impl<W: Write> Terminal<W> {
    /// Lines go to `out`; bars to standard error when it is a terminal.
    pub fn new(out: W) -> Self {
        Self {
            out: Lines::new(out),
            bar: None,
            epochs: 0,
            train_pictures: 0,
            val_pictures: 0,
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start_bar(&mut self, phase: &'static str, pictures: u64) {
        self.clear();
        let style = ProgressStyle::with_template(
            "{prefix:>5} {bar:32.cyan/black.bright} {pos}/{len} pictures  {per_sec}, {eta} left  {msg}",
        )
        .expect("the template is a constant that tests draw with")
        .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            // An error here could only come from the buffer that indicatif draws into.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        })
        .progress_chars("━━╌");
        let bar = ProgressBar::new(pictures)
            .with_style(style)
            .with_prefix(phase);
        bar.enable_steady_tick(Duration::from_millis(500));
        self.bar = Some(bar);
    }

    fn start_spinner(&mut self, what: &str) {
        self.clear();
        let bar = ProgressBar::new_spinner().with_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    fn start_download(&mut self, what: &str, bytes: u64) {
        self.clear();
        let template = "{prefix} {bar:32.cyan/black.bright} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template)
            .expect("the template is a constant that tests draw with")
            .progress_chars("━━╌");
        self.bar = Some(
            ProgressBar::new(bytes)
                .with_style(style)
                .with_prefix(what.to_string()),
        );
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        self.clear();
        self.out.line(text)
    }
}

impl<W: Write> Renderer for Terminal<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        match message {
            Message::Data {
                source,
                root,
                classes,
                train_pictures,
                val_pictures,
                hint,
            } => {
                let what = match *source {
                    "sample" => "the built-in sample of drawn insects, ",
                    "photographs" => "the photographs of ants and bees, ",
                    _ => "",
                };
                self.line(&format!(
                    "Data: {what}{root}: {train_pictures} train and {val_pictures} val pictures of {}",
                    list_classes(classes)
                ))?;
                hint.map_or(Ok(()), |hint| self.line(&format!("      {hint}")))
            }
            Message::UnmeasuredClasses { classes } => self.line(&format!(
                "Warning: val has no pictures of {}: its loss and accuracy say nothing about them",
                list_classes(classes)
            )),
            Message::Working { what } => {
                self.start_spinner(what);
                Ok(())
            }
            Message::SkippedPicture(skipped) => self.line(&skipped.to_string()),
            Message::Download { what, done, total } => {
                match &self.bar {
                    Some(bar) if bar.length() == Some(*total as u64) => {
                        bar.set_position(*done as u64)
                    }
                    _ => self.start_download(what, *total as u64),
                }
                Ok(())
            }
            Message::Device {
                device,
                threads,
                fallback,
            } => {
                let threads = counted(*threads, "thread");
                self.line(&format!("Device: {device}, {threads}"))?;
                fallback.map_or(Ok(()), |why| self.line(&format!("        {why}")))
            }
            Message::Network { table, .. } => self.line(&format!("\n{}", table.trim_end())),
            Message::Weights {
                source,
                loaded,
                fresh,
                unused,
                mismatched,
            } => {
                self.line(&format!(
                    "\nWeights: {source}: {} of {} tensors loaded",
                    loaded.len(),
                    loaded.len() + fresh.len()
                ))?;
                if !fresh.is_empty() {
                    self.line(&format!(
                        "         fresh, starting at random: {}",
                        layers(fresh)
                    ))?;
                }
                for (name, theirs, ours) in *mismatched {
                    self.line(&format!(
                        "         {name} is {theirs:?} in the file, {ours:?} here"
                    ))?;
                }
                if !unused.is_empty() {
                    self.line(&format!(
                        "         not used, being of other classes: {}",
                        layers(unused)
                    ))?;
                }
                Ok(())
            }
            Message::Run { directory } => self.line(&format!("Run: {directory}")),
            Message::Checkpoint { .. }
            | Message::DamagedCheckpoint { .. }
            | Message::Resumed { .. }
            | Message::ChangedData { .. }
            | Message::AlreadyDone { .. }
            | Message::Interrupted { .. } => {
                resuming::line(message).map_or(Ok(()), |line| self.line(&line))
            }
            Message::StageStart {
                stage,
                epochs,
                groups,
                trainable_parameters,
                frozen_parameters,
                train_pictures,
                val_pictures,
            } => {
                self.train_pictures = *train_pictures;
                self.val_pictures = *val_pictures;
                self.epochs = *epochs;
                let rates: Vec<String> = groups
                    .iter()
                    .map(|group| {
                        let layers = if group.layers.is_empty() {
                            "everything"
                        } else {
                            &group.layers
                        };
                        format!("{layers} at {}", rate(group.rate))
                    })
                    .collect();
                self.line(&format!(
                    "\nStage {stage}: {}, {} of {} parameters train: {}\n",
                    counted(*epochs as usize, "epoch"),
                    thousands(*trainable_parameters),
                    thousands(trainable_parameters + frozen_parameters),
                    rates.join(", ")
                ))?;
                if *epochs == 1 {
                    self.line(&format!(
                        "Warning: nothing trains, because the first epoch of a stage only validates; \
                         --{stage}-epochs 2 trains for one epoch\n"
                    ))?;
                }
                Ok(())
            }
            Message::EpochStart {
                epoch,
                epochs,
                baseline,
                ..
            } => {
                self.line(&format!("Epoch {epoch}/{epochs}\n----------"))?;
                if *baseline {
                    self.start_bar("val", self.val_pictures);
                } else {
                    self.start_bar("train", self.train_pictures);
                }
                Ok(())
            }
            Message::Batch {
                pictures, score, ..
            } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("loss {:.4}", score.loss));
                    bar.set_position(*pictures);
                }
                Ok(())
            }
            Message::Phase { phase, score, .. } => {
                self.line(&format!(
                    "{phase} Loss: {:.4} Acc: {:.4}",
                    score.loss, score.accuracy
                ))?;
                match phase {
                    trainer::Phase::Train => {
                        self.start_bar("val", self.val_pictures);
                        Ok(())
                    }
                    trainer::Phase::Val => self.line(""),
                }
            }
            Message::NewBest { .. } => Ok(()),
            Message::StageEnd {
                stage,
                best_epoch,
                best_accuracy,
                seconds,
            } => {
                let seconds = seconds.round() as u64;
                self.line(&format!(
                    "Training complete in {}m {}s",
                    seconds / 60,
                    seconds % 60
                ))?;
                self.line(&format!("Best val Acc: {best_accuracy:.4}"))?;
                self.line(&match (best_epoch, self.epochs) {
                    (_, 1) => format!("Kept: the weights that stage {stage} began with"),
                    (1, _) => format!(
                        "Kept: the weights that stage {stage} began with; no epoch that trained had a higher val Acc"
                    ),
                    _ => format!("Kept: the weights of epoch {best_epoch}"),
                })
            }
            Message::Done {
                directory, model, ..
            } => {
                self.line(&format!("\nModel: {model}"))?;
                let run = quoted(directory);
                self.line(&format!("Try it: waggle predict {run} PICTURE..."))
            }
        }
    }
}

fn list_classes(classes: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = classes
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = if classes.len() > SHOWN { ", …" } else { "" };
    format!("{} ({shown}{more})", counted(classes.len(), "class"))
}

/// Parameter names shortened to their layers, each once.
fn layers(names: &[String]) -> String {
    let mut layers: Vec<&str> = names
        .iter()
        .map(|name| {
            name.rsplit_once('.')
                .map_or(name.as_str(), |(layer, _)| layer)
        })
        .collect();
    layers.dedup();
    layers.join(", ")
}

/// A learning rate as people write it: 1e-3, 0.05.
fn rate(rate: f64) -> String {
    if rate < 0.01 {
        format!("{rate:e}")
    } else {
        rate.to_string()
    }
}

/// 138357544 as 138,357,544.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        let _ = write!(text, "{digit}");
    }
    text
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
