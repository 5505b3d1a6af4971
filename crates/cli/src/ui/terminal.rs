//! Human-readable output: one line per epoch, and a progress bar for the current phase.

use std::io::Write;

use dataset::path_text;
use indicatif::{HumanCount, MultiProgress};
use trainer::{Best, Event, GroupLr, Phase};

use super::calibration::calibration_text;
use super::epoch_table::EpochTable;
use super::text::{
    classes, duration, learning_rate, list, percent, percent_range, pluralize, unused_files,
};
use super::{DataSet, Finished, Message, Page, Renderer, StageEvent, WeightsReport};
use crate::config::StageName;
use crate::escape::printable;
use crate::shell::quote;

/// Prints messages as human-readable text. Bars are drawn only if standard error is a terminal.
pub struct Terminal<W> {
    page: Page<W>,
    verbose: bool,
    table: EpochTable,
}

impl<W: Write> Terminal<W> {
    /// Creates a renderer that prints to `page`. If `verbose`, it also prints the layer table, and the
    /// tensors of the weights that were replaced or have another shape.
    pub fn new(page: Page<W>, verbose: bool) -> Self {
        Self {
            page,
            verbose,
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
            unused,
            hint,
        } = message;
        let kind = match *source {
            "sample" => " (built-in drawings of insects)",
            "photographs" => " (photographs of ants and bees)",
            _ => "",
        };
        self.page.field("Data", &format!("{root}{kind}"))?;
        let text = format!(
            "{train_images} train and {val_images} val images, {}",
            classes(names)
        );
        self.page.field("", &text)?;
        if let Some(unused) = unused_files(unused) {
            self.page.field("", &format!("not used: {unused}"))?;
        }
        hint.map_or(Ok(()), |hint| self.page.field("", hint))
    }

    fn weights(&mut self, message: &WeightsReport<'_>) -> anyhow::Result<()> {
        let WeightsReport {
            source,
            classes,
            report,
        } = message;
        let loaded = report.loaded.len();
        if loaded == 0 {
            return self.page.field("Weights", "randomly initialized");
        }
        let total = loaded + report.initialized.len();
        let new = match report.initialized_layers().join(", ").as_str() {
            "" => String::new(),
            "classifier.6" => format!("; new head for {}", pluralize(*classes, "class")),
            layers => format!("; newly initialized: {layers}"),
        };
        let text = format!("{loaded} of {total} tensors from {source}{new}");
        self.page.field("Weights", &text)?;
        for note in weights_notes(report) {
            self.page.field("", &note)?;
        }
        if self.verbose {
            let mismatched = &report.mismatched;
            for (name, in_file, in_network) in mismatched {
                let text =
                    format!("{name}: {in_file:?} in the file, {in_network:?} in the network");
                self.page.field("", &text)?;
            }
            let shape_differs =
                |name: &&String| mismatched.iter().any(|(other, ..)| other == *name);
            for name in report.replaced.iter().filter(|name| !shape_differs(name)) {
                let text = format!("{name}: replaced, because it was trained for other classes");
                self.page.field("", &text)?;
            }
        }
        Ok(())
    }

    fn stage_event(&mut self, message: &StageEvent<'_>) -> anyhow::Result<()> {
        let stage = message.stage;
        match message.event {
            Event::StageStart { counts, groups, .. } => {
                self.stage_start(stage, groups, counts.trainable)
            }
            Event::EpochStart { baseline, .. } => {
                self.start_bar(if *baseline { Phase::Val } else { Phase::Train });
                Ok(())
            }
            Event::BatchDone { progress, .. } => {
                self.page.bars.set_phase(progress.samples, progress.loss);
                Ok(())
            }
            Event::PhaseEnd { phase, .. } => {
                if *phase == Phase::Train {
                    self.start_bar(Phase::Val);
                }
                Ok(())
            }
            Event::StageEnd {
                best,
                accuracy,
                seconds,
            } => self.stage_end(stage, *best, *accuracy, *seconds),
            _ => Ok(()),
        }
    }

    fn stage_start(
        &mut self,
        stage: StageName,
        groups: &[GroupLr],
        trainable_parameters: usize,
    ) -> anyhow::Result<()> {
        let (stage, epochs) = (stage.as_str(), self.table.epochs);
        let title = format!("Stage {stage}: {}", pluralize(epochs as usize, "epoch"));
        let title = self.page.style().bold().apply_to(title).to_string();
        self.page.line("")?;
        self.page
            .paragraph(&format!("{title} (epoch 1: baseline, no training)"), 2)?;
        let groups: Vec<String> = groups
            .iter()
            .map(|group| {
                let layers = match group.pattern.as_str() {
                    "" => "all",
                    layers => layers,
                };
                format!("{layers}={}", learning_rate(group.lr))
            })
            .collect();
        let text = format!(
            "Training {} parameters, lr: {}",
            HumanCount(trainable_parameters as u64),
            groups.join(", ")
        );
        self.page.paragraph(&printable(&text), 2)?;
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
        stage: StageName,
        best: Best,
        accuracy: f64,
        seconds: f64,
    ) -> anyhow::Result<()> {
        let seconds = seconds.round() as u64;
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        self.page
            .line(&format!("\nTraining complete in {minutes}m {seconds}s"))?;
        let epoch = match best {
            Best::Baseline => "baseline".to_string(),
            Best::Epoch(epoch) => format!("epoch {}", epoch + 1),
        };
        self.page
            .line(&format!("Best val Acc: {} ({epoch})", percent(accuracy)))?;
        if best != Best::Baseline || self.table.epochs == 1 {
            return Ok(());
        }
        let kept = match stage {
            StageName::Transfer => "Kept the initial weights; no trained epoch was better",
            StageName::Finetune => {
                "Kept the weights from before fine-tuning; no fine-tuned epoch was better"
            }
        };
        self.page.paragraph(kept, 0)
    }

    fn done(&mut self, message: &Finished<'_>) -> anyhow::Result<()> {
        let Finished {
            directory,
            files,
            score,
            images,
            interval,
            worst_class,
            calibration,
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
        if let Some(calibration) = calibration {
            for text in calibration_text(calibration, *images) {
                self.page.field("", &text)?;
            }
        }
        if let Some(worst) = worst_class {
            let images = pluralize(worst.images as usize, "image");
            let text = format!("{}, {} of {images}", worst.class, percent(worst.recall));
            self.page.field("Worst", &text)?;
        }
        self.page.field("Time", &duration(*seconds))?;
        self.page
            .field("Wrote", &format!("{directory}: {}", files.join(", ")))?;
        let command = format!(
            "waggle predict {} IMAGE...",
            quote(path_text::decode(directory))
        );
        self.page.field("Next", &command)
    }
}

impl<W: Write> Renderer for Terminal<W> {
    fn progress(&self) -> MultiProgress {
        self.page.bars.handle()
    }

    fn finish(&self) -> anyhow::Result<()> {
        self.page.out.finish()
    }

    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        // Print an epoch's row at the next message, which shows whether the epoch is the best so
        // far. Checkpoint messages do not count, because they may come before `NewBest`.
        if !matches!(message, Message::Checkpoint { .. }) {
            let is_best = |event: &Event| matches!(event, Event::NewBest { .. });
            self.finish_epoch(matches!(message, Message::Stage(stage) if is_best(stage.event)))?;
        }
        self.table.record(message);
        if let Some(warning) = message.warning() {
            self.page.warn(warning);
        }
        match message {
            Message::Stage(message) => self.stage_event(message),
            Message::Data(message) => self.data(message),
            Message::Working { what } => {
                self.page.bars.start_spinner(what);
                Ok(())
            }
            Message::Download { what, done, total } => {
                let (done, total) = (*done as u64, *total as u64);
                self.page.bars.set_download(what, done, total);
                Ok(())
            }
            Message::Note { text } => self.page.line(&printable(text)),
            Message::Device {
                device, threads, ..
            } => {
                let text = format!("{device}, {}", pluralize(*threads, "thread"));
                self.page.field("Device", &text)
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
                    HumanCount(*parameters as u64),
                    HumanCount(*trainable_parameters as u64)
                );
                self.page.field("Network", &text)?;
                if self.verbose {
                    self.page.line(&format!("\n{}\n", table.trim_end()))?;
                }
                Ok(())
            }
            Message::Weights(message) => self.weights(message),
            Message::Run {
                directory,
                existing,
                ..
            } => {
                let existing = existing.as_ref();
                let note = existing.map(|path| format!(" ({path} already exists)"));
                let text = format!("{directory}{}", note.unwrap_or_default());
                self.page.field("Run", &text)
            }
            Message::OtherFiles { files } => {
                let names = list(files);
                let text = format!("Ignoring files that are not part of the run: {names}");
                self.page.paragraph(&printable(&text), 2)
            }
            Message::Checkpoint { .. }
            | Message::ClassesWithoutVal { .. }
            | Message::SharedFolder { .. }
            | Message::SkippedImage(_)
            | Message::DamagedCheckpoint { .. }
            | Message::NotCheckpoint { .. }
            | Message::Restored { .. }
            | Message::ChangedData { .. } => Ok(()),
            Message::Resumed {
                file,
                stage,
                epoch,
                phase,
                batches,
            } => {
                let position = match (phase, batches) {
                    (Phase::Val, _) => ", validation".to_string(),
                    (Phase::Train, 0) => String::new(),
                    (Phase::Train, _) => format!(", {} done", pluralize(*batches, "batch")),
                };
                let (file, stage) = (printable(file), stage.as_str());
                self.page.line(&format!(
                    "Resuming from {file}: stage {stage}, epoch {epoch}{position}"
                ))
            }
            Message::AlreadyDone { directory } => self.page.line(&format!(
                "The run {} is already finished; there is nothing to resume",
                printable(directory)
            )),
            Message::Interrupted { signal, directory } => self.page.line(&format!(
                "\nStopped by {signal}. Nothing is lost; to resume:\n  waggle train --resume {}",
                quote(path_text::decode(directory))
            )),
            Message::Done(message) => self.done(message),
        }
    }
}

/// Notes about a weights file: a choice between several networks, narrowed values, and unused tensors.
fn weights_notes(report: &vgg::Report) -> Vec<String> {
    let mut notes = Vec::new();
    if !report.other_keys.is_empty() {
        let used = match report.key.as_str() {
            "" => "the weights without a key".to_string(),
            key => format!("`{key}`"),
        };
        notes.push(format!(
            "used {used}, not {}; to choose other weights in the file, append their key to its path: FILE#KEY",
            report.other_keys.join(", ")
        ));
    }
    if !report.narrowed.is_empty() {
        let tensors = pluralize(report.narrowed.len(), "tensor");
        notes.push(format!("{tensors} narrowed from float64 to float32"));
    }
    if !report.unused.is_empty() {
        notes.push(format!("not used: {}", report.unused.join(", ")));
    }
    notes
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
