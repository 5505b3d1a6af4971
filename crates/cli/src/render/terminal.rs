//! Output for people: one line per epoch, and a progress bar for the current phase.

use std::io::{self, Stdout, Write};
use std::time::Duration;

use console::{Style, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use trainer::Phase;

use super::format::{
    classes, duration, estimate, learning_rate, pad_left, pad_right, percent, percent_range,
    thousands, wrap,
};
use super::time_left::TimeLeft;
use super::{Lines, Renderer, resuming};
use crate::error::{Warning, warn};
use crate::message::Message;
use crate::metrics::Score;
use crate::shell::quote;
use crate::text::pluralize;
use crate::values::LayerRate;

/// Width of the labels `Data`, `Device`, … with the space after them.
const LABEL_WIDTH: usize = 9;

/// Prints lines to standard output, and bars and warnings to standard error.
///
/// Bars are drawn only if standard error is a terminal.
pub struct Terminal<W> {
    out: Lines<W>,
    verbose: bool,
    color: bool,
    /// Columns to wrap at; `None` if standard output is not a terminal.
    columns: Option<usize>,
    progress: MultiProgress,
    bar: Option<ProgressBar>,
    time_left: TimeLeft,
    stage: StageView,
    epoch: EpochView,
}

/// The current stage.
#[derive(Default)]
struct StageView {
    epochs: u64,
    train_images: u64,
    val_images: u64,
}

/// The current epoch: a row of the table that fills up.
#[derive(Default)]
struct EpochView {
    epoch: u64,
    baseline: bool,
    train: Option<Score>,
    val: Option<Score>,
    seconds: f64,
}

impl Terminal<Stdout> {
    /// Prints to standard output, in color if that is a terminal and `NO_COLOR` is not set.
    pub fn stdout(verbose: bool) -> Self {
        Self {
            verbose,
            color: console::colors_enabled(),
            columns: Term::stdout()
                .size_checked()
                .map(|(_, columns)| usize::from(columns)),
            ..Self::new(io::stdout())
        }
    }
}

impl<W: Write> Terminal<W> {
    /// Prints to `out`, without color and without wrapping.
    pub fn new(out: W) -> Self {
        Self {
            out: Lines::new(out),
            verbose: false,
            color: false,
            columns: None,
            progress: MultiProgress::new(),
            bar: None,
            time_left: TimeLeft::default(),
            stage: StageView::default(),
            epoch: EpochView::default(),
        }
    }

    fn style(&self) -> Style {
        Style::new().force_styling(self.color)
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.progress.remove(&bar);
        }
    }

    fn show_bar(&mut self, bar: ProgressBar) {
        self.clear_bar();
        let bar = self.progress.add(bar);
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn show_phase(&mut self, phase: Phase) {
        let images = match phase {
            Phase::Train => self.stage.train_images,
            Phase::Val => self.stage.val_images,
        };
        let per_second = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to indicatif's buffer cannot fail.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        let template =
            "{prefix} {wide_bar:.cyan/black.bright} {pos}/{len}  {per_sec}  {eta} left  {msg}";
        let style = style(template).with_key("per_sec", per_second);
        let prefix = format!("{}/{} {phase}", self.epoch.epoch, self.stage.epochs);
        let bar = ProgressBar::new(images)
            .with_style(style)
            .with_prefix(prefix);
        self.show_bar(bar);
    }

    fn show_download(&mut self, what: &str, bytes: u64) {
        let template = "{prefix} {wide_bar:.cyan/black.bright} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        let bar = ProgressBar::new(bytes)
            .with_style(style(template))
            .with_prefix(what.to_string());
        self.show_bar(bar);
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        self.clear_bar();
        self.out.line(text)
    }

    /// Prints a paragraph. Further lines are indented by `indent` columns.
    fn paragraph(&mut self, text: &str, indent: usize) -> anyhow::Result<()> {
        let Some(columns) = self.columns else {
            return self.line(text);
        };
        for (index, line) in wrap(text, columns.saturating_sub(indent))
            .iter()
            .enumerate()
        {
            let indent = if index == 0 { 0 } else { indent };
            self.line(&format!("{}{line}", " ".repeat(indent)))?;
        }
        Ok(())
    }

    /// Prints `Label    text`, with the text aligned and wrapped.
    fn field(&mut self, label: &str, text: &str) -> anyhow::Result<()> {
        let columns = self.columns.unwrap_or(usize::MAX);
        let label = self
            .style()
            .bold()
            .apply_to(pad_right(label, LABEL_WIDTH))
            .to_string();
        let mut start = label;
        for line in text.lines() {
            for line in wrap(line, columns.saturating_sub(LABEL_WIDTH)) {
                self.line(&format!("{start}{line}"))?;
                start = " ".repeat(LABEL_WIDTH);
            }
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning) {
        self.clear_bar();
        warn(&warning);
    }

    /// Prints the head of the table of epochs.
    fn table_head(&mut self) -> anyhow::Result<()> {
        let cells = [
            "epoch",
            "train loss",
            "acc",
            "val loss",
            "acc",
            "",
            "time",
            "left",
        ];
        let head = self.row(cells.map(String::from));
        let head = self.style().dim().apply_to(head).to_string();
        self.line(&head)
    }

    /// A row of the table: 60 columns, more if a stage has a hundred epochs.
    fn row(&self, cells: [String; 8]) -> String {
        let epochs = 2 * self.stage.epochs.to_string().len() + 1;
        let widths = [epochs.max(5), 11, 8, 10, 8, 2, 8, 8];
        let cells = cells.iter().zip(widths);
        let cells: String = cells.map(|(cell, width)| pad_left(cell, width)).collect();
        cells.trim_end().to_string()
    }

    /// Prints the row of the completed epoch, if there is one that has not been printed.
    fn finish_epoch(&mut self, is_best: bool) -> anyhow::Result<()> {
        let Some(val) = self.epoch.val.take() else {
            return Ok(());
        };
        let EpochView {
            epoch,
            baseline,
            train,
            seconds,
            ..
        } = self.epoch;
        let [train_loss, train_accuracy] = match train {
            Some(score) => [format!("{:.4}", score.loss), percent(score.accuracy)],
            None if baseline => ["".to_string(), "baseline".to_string()],
            // The run was resumed after the train phase of this epoch.
            None => ["-", "-"].map(String::from),
        };
        let is_best = is_best && !baseline;
        let best = self.style().green();
        let mark = |text: String| {
            if is_best {
                best.apply_to(text).to_string()
            } else {
                text
            }
        };
        let left = self.time_left.after(epoch).filter(|left| *left > 0.0);
        let row = self.row([
            format!("{epoch}/{}", self.stage.epochs),
            train_loss,
            train_accuracy,
            format!("{:.4}", val.loss),
            mark(percent(val.accuracy)),
            if is_best {
                mark("*".to_string())
            } else {
                String::new()
            },
            duration(seconds),
            left.map_or_else(String::new, estimate),
        ]);
        self.line(&row)
    }

    fn weights(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let Message::Weights {
            source,
            classes,
            loaded,
            initialized,
            replaced,
            mismatched,
        } = message
        else {
            return Ok(());
        };
        let new_layers = layers(initialized);
        let mut text = match loaded.len() {
            0 => "randomly initialized".to_string(),
            count => {
                let total = count + initialized.len();
                format!("{count} of {total} tensors from {source}")
            }
        };
        match &new_layers[..] {
            _ if loaded.is_empty() => {}
            [] => {}
            ["classifier.6"] => {
                text.push_str(&format!("; new head for {}", pluralize(*classes, "class")))
            }
            names => text.push_str(&format!("; newly initialized: {}", names.join(", "))),
        }
        self.field("Weights", &text)?;
        if self.verbose {
            if !replaced.is_empty() {
                let names = layers(replaced).join(", ");
                self.field(
                    "",
                    &format!("replaced, because trained for other classes: {names}"),
                )?;
            }
            for (name, in_file, in_network) in *mismatched {
                self.field(
                    "",
                    &format!("{name}: {in_file:?} in the file, {in_network:?} in the network"),
                )?;
            }
        }
        Ok(())
    }

    fn stage_start(
        &mut self,
        stage: &str,
        epochs: u64,
        groups: &[LayerRate],
        trainable_parameters: usize,
    ) -> anyhow::Result<()> {
        let title = format!("\nStage {stage}: {}", pluralize(epochs as usize, "epoch"));
        let title = self.style().bold().apply_to(title).to_string();
        self.paragraph(
            &format!("{title}; the first is a baseline and does not train"),
            0,
        )?;
        let groups: Vec<String> = groups
            .iter()
            .map(|group| {
                let layers = match group.layers.as_str() {
                    "" => "all layers",
                    layers => layers,
                };
                format!("{layers} at lr {}", learning_rate(group.lr))
            })
            .collect();
        let groups = groups.join(", ");
        let parameters = thousands(trainable_parameters);
        self.paragraph(&format!("Training {groups} ({parameters} parameters)"), 2)?;
        if epochs == 1 {
            let message = format!("stage {stage} does not train: its only epoch is the baseline");
            let help = format!("pass `--{stage}-epochs 2` to train for one epoch");
            self.warn(Warning::new(message).help(help));
        }
        self.line("")?;
        self.table_head()
    }

    fn stage_end(
        &mut self,
        stage: &str,
        best_epoch: u64,
        best_accuracy: f64,
        seconds: f64,
    ) -> anyhow::Result<()> {
        let seconds = seconds.round() as u64;
        self.line(&format!(
            "\nTraining complete in {}m {}s",
            seconds / 60,
            seconds % 60
        ))?;
        let epoch = match best_epoch {
            1 => "baseline".to_string(),
            _ => format!("epoch {best_epoch}"),
        };
        self.line(&format!(
            "Best val Acc: {} ({epoch})",
            percent(best_accuracy)
        ))?;
        match (best_epoch, self.stage.epochs, stage) {
            (_, 1, _) | (2.., _, _) => Ok(()),
            (_, _, "finetune") => self.paragraph(
                "Kept the weights from before fine-tuning; no fine-tuned epoch was better",
                0,
            ),
            _ => self.paragraph("Kept the initial weights; no trained epoch was better", 0),
        }
    }

    fn done(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let Message::Done {
            directory,
            files,
            score,
            images,
            interval,
            worst_class,
            seconds,
            ..
        } = message
        else {
            return Ok(());
        };
        self.line("")?;
        let accuracy = format!(
            "{} of {} (95 % interval: {})",
            percent(score.accuracy),
            pluralize(*images as usize, "val image"),
            percent_range(*interval)
        );
        self.field("Accuracy", &accuracy)?;
        if let Some(worst) = worst_class {
            let images = pluralize(worst.images as usize, "image");
            self.field(
                "Worst",
                &format!("{}: {} of {images}", worst.class, percent(worst.recall)),
            )?;
        }
        self.field("Time", &duration(*seconds))?;
        self.field("Wrote", &format!("{directory}: {}", files.join(", ")))?;
        self.field(
            "Next",
            &format!("waggle predict {} IMAGE...", quote(directory)),
        )
    }
}

impl<W: Write> Renderer for Terminal<W> {
    fn progress(&self) -> MultiProgress {
        self.progress.clone()
    }

    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let is_new_best = matches!(message, Message::NewBest { .. });
        // The row of an epoch waits for the message that it is the best so far.
        if !matches!(message, Message::Checkpoint { .. }) {
            self.finish_epoch(is_new_best)?;
        }
        match message {
            Message::Data {
                source,
                root,
                classes: names,
                train_images,
                val_images,
                hint,
            } => {
                let kind = match *source {
                    "sample" => " (built-in drawings of insects)",
                    "photographs" => " (photographs of ants and bees)",
                    _ => "",
                };
                let counts = format!("{train_images} train and {val_images} val images");
                let mut text = format!("{root}{kind}\n{counts}, {}", classes(names));
                if let Some(hint) = hint {
                    text.push('\n');
                    text.push_str(hint);
                }
                self.field("Data", &text)
            }
            Message::ClassesWithoutVal { classes } => {
                let names = classes.join(", ");
                self.warn(Warning::new(format!(
                    "no validation images for {names}; val metrics exclude them"
                )));
                Ok(())
            }
            Message::Working { what } => {
                self.show_bar(ProgressBar::new_spinner().with_message(what.clone()));
                Ok(())
            }
            Message::SkippedImage(skipped) => {
                self.warn(Warning::new(skipped.to_string()));
                Ok(())
            }
            Message::Download { what, done, total } => {
                let total = *total as u64;
                if self.bar.as_ref().and_then(ProgressBar::length) != Some(total) {
                    self.show_download(what, total);
                }
                if let Some(bar) = &self.bar {
                    bar.set_position(*done as u64);
                }
                Ok(())
            }
            Message::Device {
                device,
                threads,
                fallback,
            } => {
                let threads = pluralize(*threads, "thread");
                self.field("Device", &format!("{device}, {threads}"))?;
                if let Some(reason) = fallback {
                    self.warn(Warning::new(format!("computing on the CPU: {reason}")));
                }
                Ok(())
            }
            Message::Network {
                architecture,
                input_size,
                parameters,
                trainable_parameters,
                table,
            } => {
                let text = format!(
                    "{architecture}, {input_size} px, {} parameters, {} trainable",
                    thousands(*parameters),
                    thousands(*trainable_parameters)
                );
                self.field("Network", &text)?;
                if self.verbose {
                    self.line(&format!("\n{}\n", table.trim_end()))?;
                }
                Ok(())
            }
            Message::Weights { .. } => self.weights(message),
            Message::Run { directory, stages } => {
                self.time_left.plan(stages);
                self.field("Run", directory)
            }
            Message::Checkpoint { .. } => Ok(()),
            Message::DamagedCheckpoint { file, reason } => {
                self.warn(Warning::new(format!(
                    "ignoring the damaged checkpoint {file}: {reason}"
                )));
                Ok(())
            }
            Message::ChangedData { changes } => {
                let message = "the images have changed since the run started";
                self.warn(Warning::new(message).items(changes.lines()));
                Ok(())
            }
            Message::Resumed { .. } | Message::AlreadyDone { .. } | Message::Interrupted { .. } => {
                resuming::text(message).map_or(Ok(()), |text| self.line(&text))
            }
            Message::StageStart {
                stage,
                epochs,
                groups,
                trainable_parameters,
                train_images,
                val_images,
                ..
            } => {
                self.time_left
                    .start_stage(stage, *train_images, *val_images);
                self.stage = StageView {
                    epochs: *epochs,
                    train_images: *train_images,
                    val_images: *val_images,
                };
                self.stage_start(stage, *epochs, groups, *trainable_parameters)
            }
            Message::EpochStart {
                epoch, baseline, ..
            } => {
                self.epoch = EpochView {
                    epoch: *epoch,
                    baseline: *baseline,
                    ..EpochView::default()
                };
                self.show_phase(if *baseline { Phase::Val } else { Phase::Train });
                Ok(())
            }
            Message::Batch { images, score, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("loss {:.4}", score.loss));
                    bar.set_position(*images);
                }
                Ok(())
            }
            Message::Phase {
                phase,
                score,
                seconds,
                images_per_second,
                ..
            } => {
                self.time_left.record(*phase, *images_per_second);
                self.epoch.seconds += seconds;
                match phase {
                    Phase::Train => {
                        self.epoch.train = Some(*score);
                        self.show_phase(Phase::Val);
                    }
                    Phase::Val => self.epoch.val = Some(*score),
                }
                Ok(())
            }
            Message::NewBest { .. } => Ok(()),
            Message::StageEnd {
                stage,
                best_epoch,
                best_accuracy,
                seconds,
            } => self.stage_end(stage, *best_epoch, *best_accuracy, *seconds),
            Message::Done { .. } => self.done(message),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants, and a test draws each of them")
        .progress_chars("━━╌")
}

/// The layers of parameters such as `classifier.6.weight`, each once.
fn layers(names: &[String]) -> Vec<&str> {
    let layer = |name| str::rsplit_once(name, '.').map_or(name, |(layer, _)| layer);
    let mut layers: Vec<&str> = names.iter().map(|name| layer(name)).collect();
    layers.dedup();
    layers
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
