//! Human-readable output: one line per epoch, and a progress bar for the current phase.

use std::io::{Stdout, Write};

use indicatif::MultiProgress;
use trainer::Phase;

use super::epoch_table::EpochTable;
use super::format::{classes, duration, learning_rate, percent, percent_range, thousands};
use super::page::Page;
use super::{Renderer, resuming};
use crate::args::types::LayerRate;
use crate::error::Diagnostic;
use crate::message::{DataSet, Finished, Message, WeightsReport};
use crate::shell::quote;
use crate::text::pluralize;

/// Prints messages as human-readable text. Bars are drawn only if standard error is a terminal.
pub struct Terminal<W> {
    page: Page<W>,
    verbose: bool,
    table: EpochTable,
}

impl Terminal<Stdout> {
    /// Creates a renderer for standard output. Color depends on the terminal, `NO_COLOR` and
    /// `CLICOLOR_FORCE`. If `verbose`, it also prints the layer table, and the tensors of the weights
    /// that were replaced or have another shape.
    pub fn stdout(verbose: bool) -> Self {
        Self {
            page: Page::stdout(),
            verbose,
            table: EpochTable::default(),
        }
    }
}

impl<W: Write> Terminal<W> {
    /// Creates a renderer that prints to `out` without color, wrapped at `columns`.
    pub fn new(out: W, columns: Option<usize>) -> Self {
        Self {
            page: Page::new(out, columns),
            verbose: false,
            table: EpochTable::default(),
        }
    }

    fn start_bar(&mut self, phase: Phase) {
        let (name, images) = self.table.phase(phase);
        self.page.bars.start_phase(name, images);
    }

    /// Prints the row of the current epoch if it is complete and has not been printed yet.
    fn finish_epoch(&mut self, is_best: bool) -> anyhow::Result<()> {
        let style = self.page.style().green();
        let row = self.table.take_row(is_best, &style);
        row.map_or(Ok(()), |row| self.page.line(&row))
    }

    fn data(&mut self, message: &DataSet<'_>) -> anyhow::Result<()> {
        let DataSet {
            source,
            root,
            classes: names,
            train_images,
            val_images,
            hint,
        } = message;
        let kind = match *source {
            "sample" => " (built-in drawings of insects)",
            "photographs" => " (photographs of ants and bees)",
            _ => "",
        };
        let mut text = format!(
            "{root}{kind}\n{train_images} train and {val_images} val images, {}",
            classes(names)
        );
        if let Some(hint) = hint {
            text.push('\n');
            text.push_str(hint);
        }
        self.page.field("Data", &text)
    }

    fn weights(&mut self, message: &WeightsReport<'_>) -> anyhow::Result<()> {
        let WeightsReport {
            source,
            classes,
            loaded,
            initialized,
            replaced,
            mismatched,
        } = message;
        if loaded.is_empty() {
            return self.page.field("Weights", "randomly initialized");
        }
        let total = loaded.len() + initialized.len();
        let new = match &layers(initialized)[..] {
            [] => String::new(),
            ["classifier.6"] => format!("; new head for {}", pluralize(*classes, "class")),
            names => format!("; newly initialized: {}", names.join(", ")),
        };
        let text = format!("{} of {total} tensors from {source}{new}", loaded.len());
        self.page.field("Weights", &text)?;
        if self.verbose {
            for (name, in_file, in_network) in *mismatched {
                let text =
                    format!("{name}: {in_file:?} in the file, {in_network:?} in the network");
                self.page.field("", &text)?;
            }
            let shape_differs =
                |name: &&String| mismatched.iter().any(|(other, ..)| other == *name);
            for name in replaced.iter().filter(|name| !shape_differs(name)) {
                let text = format!("{name}: replaced, because it was trained for other classes");
                self.page.field("", &text)?;
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
        let title = format!("Stage {stage}: {}", pluralize(epochs as usize, "epoch"));
        let title = self.page.style().bold().apply_to(title).to_string();
        self.page.line("")?;
        self.page
            .paragraph(&format!("{title} (epoch 1: baseline, no training)"), 2)?;
        let groups: Vec<String> = groups
            .iter()
            .map(|group| {
                let layers = match group.layers.as_str() {
                    "" => "all",
                    layers => layers,
                };
                format!("{layers}={}", learning_rate(group.lr))
            })
            .collect();
        let text = format!(
            "Training {} parameters, lr: {}",
            thousands(trainable_parameters),
            groups.join(", ")
        );
        self.page.paragraph(&text, 2)?;
        if epochs == 1 {
            let message = format!("stage {stage} does not train: its only epoch is the baseline");
            let help = format!("pass `--{stage}-epochs 2` to train for one epoch");
            self.page.warn(Diagnostic::new(message).help(help));
        }
        self.page.line("")?;
        let head = self
            .page
            .style()
            .dim()
            .apply_to(self.table.head())
            .to_string();
        self.page.line(&head)
    }

    fn stage_end(
        &mut self,
        stage: &str,
        best_epoch: u64,
        best_accuracy: f64,
        seconds: f64,
    ) -> anyhow::Result<()> {
        let seconds = seconds.round() as u64;
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        self.page
            .line(&format!("\nTraining complete in {minutes}m {seconds}s"))?;
        let epoch = match best_epoch {
            1 => "baseline".to_string(),
            _ => format!("epoch {best_epoch}"),
        };
        self.page.line(&format!(
            "Best val Acc: {} ({epoch})",
            percent(best_accuracy)
        ))?;
        match (best_epoch, self.table.epochs, stage) {
            (2.., _, _) | (_, 1, _) => Ok(()),
            (_, _, "finetune") => self.page.paragraph(
                "Kept the weights from before fine-tuning; no fine-tuned epoch was better",
                0,
            ),
            _ => self
                .page
                .paragraph("Kept the initial weights; no trained epoch was better", 0),
        }
    }

    fn done(&mut self, message: &Finished<'_>) -> anyhow::Result<()> {
        let Finished {
            directory,
            files,
            score,
            images,
            interval,
            worst_class,
            seconds,
            ..
        } = message;
        self.page.line("")?;
        let accuracy = format!(
            "{} of {} (95 % interval: {})",
            percent(score.accuracy),
            pluralize(*images as usize, "val image"),
            percent_range(*interval)
        );
        self.page.field("Accuracy", &accuracy)?;
        if let Some(worst) = worst_class {
            let images = pluralize(worst.images as usize, "image");
            let text = format!("{}, {} of {images}", worst.class, percent(worst.recall));
            self.page.field("Worst", &text)?;
        }
        self.page.field("Time", &duration(*seconds))?;
        self.page
            .field("Wrote", &format!("{directory}: {}", files.join(", ")))?;
        let command = format!("waggle predict {} IMAGE...", quote(directory));
        self.page.field("Next", &command)
    }
}

impl<W: Write> Renderer for Terminal<W> {
    fn progress(&self) -> MultiProgress {
        self.page.bars.handle()
    }

    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        // Print an epoch's row at the next message, which shows whether the epoch is the best so
        // far. Checkpoint messages do not count, because they may come before `NewBest`.
        if !matches!(message, Message::Checkpoint { .. }) {
            self.finish_epoch(matches!(message, Message::NewBest { .. }))?;
        }
        match message {
            Message::Data(message) => self.data(message),
            Message::ClassesWithoutVal { classes } => {
                let names = classes.join(", ");
                let text = format!("no validation images for {names}; val metrics exclude them");
                self.page.warn(Diagnostic::new(text));
                Ok(())
            }
            Message::Working { what } => {
                self.page.bars.start_spinner(what);
                Ok(())
            }
            Message::SkippedImage(skipped) => {
                self.page.warn(Diagnostic::new(skipped.to_string()));
                Ok(())
            }
            Message::Download { what, done, total } => {
                let (done, total) = (*done as u64, *total as u64);
                self.page.bars.set_download(what, done, total);
                Ok(())
            }
            Message::Device {
                device,
                threads,
                fallback,
            } => {
                let text = format!("{device}, {}", pluralize(*threads, "thread"));
                self.page.field("Device", &text)?;
                if let Some(reason) = fallback {
                    let text = format!("computing on the CPU: {reason}");
                    self.page.warn(Diagnostic::new(text));
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
                self.page.field("Network", &text)?;
                if self.verbose {
                    self.page.line(&format!("\n{}\n", table.trim_end()))?;
                }
                Ok(())
            }
            Message::Weights(message) => self.weights(message),
            Message::Run { directory, stages } => {
                self.table.plan(stages);
                self.page.field("Run", directory)
            }
            Message::Checkpoint { .. } | Message::NewBest { .. } => Ok(()),
            Message::DamagedCheckpoint { file, reason } => {
                let text = format!("ignoring the damaged checkpoint {file}: {reason}");
                self.page.warn(Diagnostic::new(text));
                Ok(())
            }
            Message::ChangedData { changes } => {
                let warning = Diagnostic::new("the images have changed since the run started");
                self.page.warn(warning.items(changes.lines()));
                Ok(())
            }
            Message::Resumed { .. } | Message::AlreadyDone { .. } | Message::Interrupted { .. } => {
                resuming::text(message).map_or(Ok(()), |text| self.page.line(&text))
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
                self.table
                    .start_stage(stage, *epochs, *train_images, *val_images);
                self.stage_start(stage, *epochs, groups, *trainable_parameters)
            }
            Message::EpochStart {
                epoch, baseline, ..
            } => {
                self.table.start_epoch(*epoch, *baseline);
                self.start_bar(if *baseline { Phase::Val } else { Phase::Train });
                Ok(())
            }
            Message::Batch { images, score, .. } => {
                self.page.bars.set_phase(*images, score.loss);
                Ok(())
            }
            Message::Phase {
                phase,
                score,
                seconds,
                images_per_second,
                ..
            } => {
                self.table
                    .end_phase(*phase, *score, *seconds, *images_per_second);
                if *phase == Phase::Train {
                    self.start_bar(Phase::Val);
                }
                Ok(())
            }
            Message::StageEnd {
                stage,
                best_epoch,
                best_accuracy,
                seconds,
            } => self.stage_end(stage, *best_epoch, *best_accuracy, *seconds),
            Message::Done(message) => self.done(message),
        }
    }
}

/// The layers of the tensors `names`, such as `classifier.6` for `classifier.6.weight`. Tensors of a
/// layer must be adjacent.
fn layers(names: &[String]) -> Vec<&str> {
    let layer = |name| str::rsplit_once(name, '.').map_or(name, |(layer, _)| layer);
    let mut layers: Vec<&str> = names.iter().map(|name| layer(name)).collect();
    layers.dedup();
    layers
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
