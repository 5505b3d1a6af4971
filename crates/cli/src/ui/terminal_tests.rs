//! Tests of `terminal.rs`.

use super::*;
use crate::calibration::Calibration;
use crate::metrics::Score;
use crate::ui::{ClassRecall, PlannedStage};
use trainer::Counts;
use vgg::Report;

const STAGE: StageName = StageName::Transfer;

fn score(loss: f64, accuracy: f64) -> Score {
    Score { loss, accuracy }
}

fn stage_start(epochs: u64) -> Event {
    Event::StageStart {
        epochs: epochs - 1,
        epoch: 0,
        counts: Counts {
            trainable: 8194,
            frozen: 134_260_544,
        },
        groups: vec![GroupLr {
            pattern: "classifier.6".to_string(),
            parameters: 8194,
            lr: 1e-3,
        }],
        first_trainable_layer: 20,
        train_samples: 240,
        val_samples: 120,
    }
}

/// The start of an epoch, counted from 1.
fn epoch_start(epoch: u64, epochs: u64) -> Event {
    Event::EpochStart {
        epoch: epoch - 1,
        epochs: epochs - 1,
        baseline: epoch == 1,
        learning_rates: Vec::new(),
    }
}

fn phase(phase: Phase, epoch: u64, score: Score) -> Event {
    Event::PhaseEnd {
        phase,
        epoch: epoch - 1,
        loss: score.loss,
        accuracy: score.accuracy,
        seconds: 12.0,
        samples_per_second: 10.0,
    }
}

fn new_best(epoch: u64) -> Event {
    Event::NewBest {
        epoch: epoch - 1,
        accuracy: 0.9,
    }
}

fn stage_end(best: Best) -> Event {
    Event::StageEnd {
        best,
        accuracy: 0.95424,
        seconds: 191.6,
    }
}

fn printed(messages: &[Message<'_>], columns: Option<usize>) -> String {
    let mut out = Vec::new();
    let mut terminal = Terminal::new(Page::new(&mut out, columns), false);
    for message in messages {
        terminal.show(message).unwrap();
    }
    String::from_utf8(out).unwrap()
}

/// The output for the events of a stage.
fn printed_stage(stage: StageName, events: &[Event]) -> String {
    let messages = events.iter();
    let messages = messages.map(|event| Message::Stage(StageEvent { stage, event }));
    printed(&messages.collect::<Vec<_>>(), None)
}

#[test]
fn each_epoch_is_one_line_and_a_new_best_is_marked() {
    let run = Message::Run {
        directory: "runs/train".to_string(),
        existing: None,
        stages: vec![PlannedStage {
            stage: STAGE,
            epochs: 4,
        }],
    };
    let events = [
        stage_start(4),
        epoch_start(1, 4),
        phase(Phase::Val, 1, score(0.6512, 0.471)),
        new_best(1),
        epoch_start(2, 4),
        phase(Phase::Train, 2, score(0.5123, 0.772)),
        phase(Phase::Val, 2, score(0.21, 0.95424)),
        new_best(2),
        epoch_start(3, 4),
        phase(Phase::Train, 3, score(0.4, 1.0)),
        phase(Phase::Val, 3, score(0.3, 0.9)),
        epoch_start(4, 4),
        phase(Phase::Train, 4, score(0.3, 1.0)),
        phase(Phase::Val, 4, score(0.3, 0.9)),
        stage_end(Best::Epoch(1)),
    ];
    let events = events.iter();
    let events = events.map(|event| {
        Message::Stage(StageEvent {
            stage: STAGE,
            event,
        })
    });
    let messages: Vec<_> = [run].into_iter().chain(events).collect();
    let expected = "\
Run      runs/train

Stage transfer: 4 epochs (epoch 1: baseline, no training)
Training 8,194 parameters, lr: classifier.6=1e-3

epoch train loss     acc  val loss     acc      time    left
  1/4           baseline    0.6512  47.1 %       12s     ~2m
  2/4     0.5123  77.2 %    0.2100  95.4 % *     24s     ~1m
  3/4     0.4000 100.0 %    0.3000  90.0 %       24s    ~40s
  4/4     0.3000 100.0 %    0.3000  90.0 %       24s

Training complete in 3m 12s
Best val Acc: 95.4 % (epoch 2)
";
    assert_eq!(printed(&messages, None), expected);
    assert!(expected.lines().skip(5).all(|line| line.len() <= 60));
}

#[test]
fn an_epoch_resumed_in_its_val_phase_has_no_train_metrics() {
    let events = [
        stage_start(3),
        epoch_start(2, 3),
        phase(Phase::Val, 2, score(0.5, 0.5)),
        stage_end(Best::Baseline),
    ];
    let out = printed_stage(STAGE, &events);
    assert!(
        out.contains("\n  2/3          -       -    0.5000  50.0 %       12s\n"),
        "{out}"
    );
}

#[test]
fn a_run_that_resumes_within_validation_says_so() {
    let resumed = |phase, batches| {
        let message = Message::Resumed {
            file: "x".to_string(),
            stage: STAGE,
            epoch: 3,
            phase,
            batches,
        };
        printed(&[message], None)
    };
    let start = "Resuming from x: stage transfer, epoch 3";
    assert_eq!(resumed(Phase::Train, 0), format!("{start}\n"));
    assert_eq!(
        resumed(Phase::Train, 2),
        format!("{start}, 2 batches done\n")
    );
    assert_eq!(resumed(Phase::Val, 0), format!("{start}, validation\n"));
}

#[test]
fn a_stage_that_did_not_improve_says_which_weights_are_kept() {
    let events = [stage_start(3), stage_end(Best::Baseline)];
    let out = printed_stage(StageName::Finetune, &events);
    let end = "Best val Acc: 95.4 % (baseline)\n\
               Kept the weights from before fine-tuning; no fine-tuned epoch was better\n";
    assert!(out.ends_with(end), "{out}");
    let out = printed_stage(STAGE, &events);
    assert!(
        out.ends_with("Kept the initial weights; no trained epoch was better\n"),
        "{out}"
    );
}

#[test]
fn paragraphs_fit_the_width_of_the_terminal() {
    let names: Vec<String> = (0..8).map(|number| format!("class{number}")).collect();
    let report = Report {
        loaded: (0..30)
            .map(|number| format!("features.{number}.weight"))
            .collect(),
        initialized: ["classifier.6.weight", "classifier.6.bias"]
            .map(String::from)
            .to_vec(),
        ..Report::default()
    };
    let stage_start = stage_start(25);
    let messages = [
        Message::Data(DataSet {
            source: "given",
            root: "my_images".to_string(),
            classes: &names,
            train_images: 244,
            val_images: 153,
            unused: &[],
            hint: Some("Use your own images with `--data DIR`."),
        }),
        Message::Network {
            architecture: "vgg16",
            input_size: 224,
            parameters: 134_268_738,
            trainable_parameters: 8194,
            table: "",
        },
        Message::Weights(WeightsReport {
            source: "vgg16_imagenet_features.safetensors",
            classes: 2,
            report: &report,
        }),
        Message::Stage(StageEvent {
            stage: STAGE,
            event: &stage_start,
        }),
        Message::Done(Finished {
            directory: "runs/train".to_string(),
            model: "runs/train/model.safetensors".to_string(),
            files: &[
                "model.safetensors",
                "config.toml",
                "metrics.csv",
                "curves.png",
            ],
            score: score(0.1, 0.95424),
            correct: 146,
            images: 153,
            interval: [0.9085, 0.9777],
            worst_class: Some(ClassRecall {
                class: "ants",
                recall: 0.9429,
                images: 70,
            }),
            calibration: Some(Calibration::NotFitted {
                reason: "no or too few val images are classified incorrectly".to_string(),
            }),
            seconds: 843.0,
        }),
    ];
    let out = printed(&messages, Some(60));
    assert!(out.lines().all(|line| line.len() <= 60), "{out}");
    let expected = "\
Weights  30 of 32 tensors from
         vgg16_imagenet_features.safetensors; new head for 2
         classes
";
    assert!(out.contains(expected), "{out}");
    let expected = "
Accuracy 95.4 % of 153 val images (95 % interval: 90.8 to
         97.8 %)
         not calibrated: no or too few val images are
         classified incorrectly
Worst    ants, 94.3 % of 70 images
Time     14m 03s
Wrote    runs/train: model.safetensors, config.toml,
         metrics.csv, curves.png
Next     waggle predict runs/train IMAGE...
";
    assert!(out.ends_with(expected), "{out}");
}
