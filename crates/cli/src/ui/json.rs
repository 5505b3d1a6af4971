//! Output for programs: JSON lines, or only the path of the run directory.

use std::io::Write;

use anyhow::Context;
use dataset::path_text;

use super::{Finished, Lines, Message, Renderer};
use crate::error::{Diagnostic, warn};
use crate::escape::path_on_stdout;
use crate::shell::quote;

/// Prints each message as a JSON object on its own line.
pub struct JsonLines<W>(pub Lines<W>);

impl<W: Write> Renderer for JsonLines<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        let line = serde_json::to_string(message).context("cannot write an event as JSON")?;
        self.0.line(&line)
    }

    fn finish(&self) -> anyhow::Result<()> {
        self.0.finish()
    }
}

/// Prints only the path of the run directory, once the run is finished, and warnings on standard
/// error.
pub struct Quiet<W>(pub Lines<W>);

impl<W: Write> Renderer for Quiet<W> {
    fn show(&mut self, message: &Message<'_>) -> anyhow::Result<()> {
        if let Some(warning) = message.warning() {
            warn(warning);
        }
        match message {
            Message::Done(Finished { directory, .. }) | Message::AlreadyDone { directory } => {
                self.0.line(path_on_stdout(&path_text::decode(directory)))
            }
            Message::Interrupted { signal, directory } => {
                let command = format!(
                    "waggle train --resume {}",
                    quote(path_text::decode(directory))
                );
                let warning = Diagnostic::new(format!("stopped by {signal}"));
                warn(warning.help(format!("to resume, run `{command}`")));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&self) -> anyhow::Result<()> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use trainer::{Best, Counts, Event, GroupLr, Phase};

    use super::*;
    use crate::config::StageName;
    use crate::ui::StageEvent;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_an_error_only_at_the_end() {
        let mut lines = Lines::new(Closed);
        lines.finish().unwrap();
        lines.line("one").unwrap();
        lines.line("two").unwrap();
        lines.finish().unwrap_err();
    }

    #[test]
    fn events_of_a_stage_have_stable_fields_that_count_from_1() {
        let events = [
            Event::StageStart {
                epochs: 2,
                epoch: 0,
                counts: Counts {
                    trainable: 3,
                    frozen: 4,
                },
                groups: vec![GroupLr {
                    pattern: "classifier.6".to_string(),
                    parameters: 3,
                    lr: 0.001,
                }],
                first_trainable_layer: 1,
                train_samples: 8,
                val_samples: 4,
            },
            Event::EpochStart {
                epoch: 0,
                epochs: 2,
                baseline: true,
                learning_rates: Vec::new(),
            },
            Event::PhaseEnd {
                phase: Phase::Val,
                epoch: 0,
                loss: f64::NAN,
                accuracy: 1.0,
                seconds: 0.5,
                samples_per_second: 8.0,
            },
            Event::NewBest {
                epoch: 0,
                accuracy: 1.0,
            },
            Event::StageEnd {
                best: Best::Baseline,
                accuracy: 1.0,
                seconds: 2.5,
            },
        ];
        let mut out = Vec::new();
        let mut json = JsonLines(Lines::new(&mut out));
        for event in &events {
            let stage = StageName::Transfer;
            json.show(&Message::Stage(StageEvent { stage, event }))
                .unwrap();
        }
        let expected = [
            r#"{"event":"stage_start","stage":"transfer","epochs":3,"groups":[{"layers":"classifier.6","lr":0.001}],"trainable_parameters":3,"frozen_parameters":4}"#,
            r#"{"event":"epoch_start","stage":"transfer","epoch":1,"epochs":3,"baseline":true}"#,
            r#"{"event":"phase","stage":"transfer","phase":"val","epoch":1,"loss":null,"accuracy":1.0,"seconds":0.5,"images_per_second":8.0}"#,
            r#"{"event":"new_best","stage":"transfer","epoch":1,"accuracy":1.0}"#,
            r#"{"event":"stage_end","stage":"transfer","best_epoch":1,"best_accuracy":1.0,"seconds":2.5}"#,
        ];
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn quiet_prints_only_the_run_directory() {
        let mut out = Vec::new();
        let mut quiet = Quiet(Lines::new(&mut out));
        quiet
            .show(&Message::Working {
                what: "x".to_string(),
            })
            .unwrap();
        let done = Message::Done(Finished {
            directory: "runs/train".to_string(),
            model: "runs/train/m".to_string(),
            files: &[],
            score: crate::metrics::Score {
                loss: 0.1,
                accuracy: 1.0,
            },
            correct: 1,
            images: 1,
            interval: [0.2, 1.0],
            worst_class: None,
            calibration: None,
            seconds: 1.0,
        });
        quiet.show(&done).unwrap();
        assert_eq!(out, b"runs/train\n");
    }
}
