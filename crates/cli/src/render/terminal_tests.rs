//! Tests of the file beside it.

use super::*;
use crate::metrics::Score;
use trainer::Phase;

#[test]
fn the_notebooks_lines_are_printed_as_they_are() {
    let mut out = Vec::new();
    let mut terminal = Terminal::new(&mut out);
    let stage = "transfer";
    let score = Score {
        loss: 0.12344,
        accuracy: 0.95006,
    };
    for message in [
        Message::EpochStart {
            stage,
            epoch: 3,
            epochs: 25,
            baseline: false,
        },
        Message::Batch {
            stage,
            phase: Phase::Train,
            epoch: 3,
            batch: 1,
            pictures: 32,
            pictures_total: 244,
            score,
        },
        Message::Phase {
            stage,
            phase: Phase::Train,
            epoch: 3,
            score,
            seconds: 1.0,
            pictures_per_second: 9.0,
        },
        Message::Phase {
            stage,
            phase: Phase::Val,
            epoch: 3,
            score,
            seconds: 1.0,
            pictures_per_second: 9.0,
        },
        Message::StageEnd {
            stage,
            best_epoch: 3,
            best_accuracy: 0.95424,
            seconds: 191.6,
        },
    ] {
        terminal.show(&message).unwrap();
    }
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "Epoch 3/25\n----------\ntrain Loss: 0.1234 Acc: 0.9501\nval Loss: 0.1234 Acc: 0.9501\n\n\
         Training complete in 3m 12s\nBest val Acc: 0.9542\nKept: the weights of epoch 3\n"
    );
}

/// What is said about a stage of so many epochs whose best is `best_epoch`.
fn stage_told(epochs: u64, best_epoch: u64) -> String {
    let mut out = Vec::new();
    let mut terminal = Terminal::new(&mut out);
    let stage = "finetune";
    for message in [
        Message::StageStart {
            stage,
            epochs,
            groups: Vec::new(),
            trainable_parameters: 1,
            frozen_parameters: 0,
            train_pictures: 4,
            val_pictures: 4,
        },
        Message::StageEnd {
            stage,
            best_epoch,
            best_accuracy: 0.5,
            seconds: 1.0,
        },
    ] {
        terminal.show(&message).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_stage_says_whose_weights_are_kept_and_when_it_was_in_vain() {
    let told = stage_told(3, 2);
    assert!(told.ends_with("\nKept: the weights of epoch 2\n"), "{told}");
    assert!(!told.contains("Warning"), "{told}");
    let told = stage_told(3, 1);
    let in_vain = "Kept: the weights that stage finetune began with; no epoch that trained had a higher val Acc\n";
    assert!(told.ends_with(in_vain), "{told}");
    let told = stage_told(1, 1);
    assert!(told.contains("Stage finetune: 1 epoch,"), "{told}");
    assert!(
        told.contains("Warning: nothing trains") && told.contains("--finetune-epochs 2"),
        "{told}"
    );
    assert!(
        told.ends_with("\nKept: the weights that stage finetune began with\n"),
        "{told}"
    );
}

#[test]
fn every_bar_can_be_drawn() {
    let mut terminal = Terminal::new(Vec::new());
    for (done, total) in [(0, 1000), (500, 1000), (1000, 1000)] {
        terminal
            .show(&Message::Download {
                what: "timm/vgg16.tv_in1k",
                done,
                total,
            })
            .unwrap();
    }
    terminal
        .show(&Message::Working {
            what: "reading".to_string(),
        })
        .unwrap();
    terminal.start_bar("train", 10);
}

#[test]
fn numbers_are_readable() {
    assert_eq!(thousands(0), "0");
    assert_eq!(thousands(999), "999");
    assert_eq!(thousands(138_357_544), "138,357,544");
    assert_eq!(rate(1e-3), "1e-3");
    assert_eq!(rate(0.05), "0.05");
}

#[test]
fn parameters_are_shown_by_layer() {
    let names = ["classifier.6.bias", "classifier.6.weight"].map(String::from);
    assert_eq!(layers(&names), "classifier.6");
}
