//! Tests of the training loop: trained and frozen parameters, metrics, events and best weights.

mod common;

use candle_core::Tensor;
use common::{
    Builder, MOMENTUM, Points, bits, epochs, evaluate_params, mlp_params, phase_ends, run, stage,
};
use trainer::{
    Best, Data, DataLoader, Error, Event, FitConfig, Flow, Group, Mode, Model, Outcome, Params,
    Phase, Schedule, Stage, cross_entropy, first_trainable_layer, fit,
};

#[test]
fn two_groups_train_after_a_baseline_epoch() {
    let params = mlp_params(1);
    let groups = vec![Group::new("body", 0.05), Group::new("head", 0.1)];
    let mut stage = Stage::new(&params, MOMENTUM, groups).unwrap();
    let (train, val) = (Points::train(60), Points::val(20));
    let baseline = evaluate_params(&params, &val);
    let config = FitConfig {
        schedule: Schedule::StepLr {
            step: 4,
            gamma: 0.1,
        },
        ..epochs(5)
    };
    let (outcome, events) = run(
        &params,
        Data {
            train: &train,
            val: &val,
        },
        &config,
        &mut stage,
    )
    .unwrap();

    let (trained, validated) = (
        phase_ends(&events, Phase::Train),
        phase_ends(&events, Phase::Val),
    );
    assert_eq!(
        trained.iter().map(|end| end.0).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        validated.iter().map(|end| end.0).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert_eq!(
        (validated[0].1, validated[0].2),
        (baseline.loss(), baseline.accuracy())
    );
    let Outcome::Finished { accuracy, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(accuracy >= 0.95, "{accuracy}");

    // The schedule counts training epochs: 1 to 4 use the full learning rate, 5 uses a tenth of it.
    let learning_rates = |event: &Event| match event {
        Event::EpochStart { learning_rates, .. } => Some(
            learning_rates
                .iter()
                .map(|group| group.lr)
                .collect::<Vec<_>>(),
        ),
        _ => None,
    };
    let learning_rates: Vec<_> = events.iter().filter_map(learning_rates).collect();
    assert_eq!(learning_rates[..5], vec![vec![0.05, 0.1]; 5]);
    assert!(
        (learning_rates[5][0] - 0.005).abs() < 1e-12 && (learning_rates[5][1] - 0.01).abs() < 1e-12
    );

    // 60 samples make 7 batches of 8 and one of 4.
    let last = events.iter().rev().find_map(|event| match event {
        Event::BatchDone {
            phase: Phase::Train,
            progress,
            ..
        } => Some(*progress),
        _ => None,
    });
    let last = last.unwrap();
    assert_eq!((last.batch, last.samples, last.samples_total), (7, 60, 60));
    assert_eq!(stage.step(), 5 * 8);
    assert!(matches!(
        events.first(),
        Some(Event::StageStart {
            first_trainable_layer: 0,
            ..
        })
    ));
    assert!(matches!(events.last(), Some(Event::StageEnd { .. })));
}

#[test]
fn means_are_over_samples_not_batches() {
    // 19 samples make batches of 8, 8 and 3.
    let params = mlp_params(1);
    let data = Data {
        train: &Points::train(19),
        val: &Points::val(19),
    };
    let whole = evaluate_params(
        &params,
        &Points {
            batch: 19,
            ..Points::val(19)
        },
    );
    let (_, events) = run(&params, data, &epochs(1), &mut stage(&params, 0.1)).unwrap();
    let (_, loss, accuracy) = phase_ends(&events, Phase::Val)[0];
    assert!((loss - whole.loss()).abs() < 1e-6 && accuracy == whole.accuracy());

    let batch_loss = |event: &Event| match event {
        Event::BatchDone {
            phase: Phase::Train,
            progress,
            ..
        } => Some(progress.batch_loss),
        _ => None,
    };
    let losses: Vec<f64> = events.iter().filter_map(batch_loss).collect();
    let [a, b, c] = losses[..] else {
        panic!("{losses:?}")
    };
    let (_, loss, _) = phase_ends(&events, Phase::Train)[0];
    assert!((loss - (8.0 * a + 8.0 * b + 3.0 * c) / 19.0).abs() < 1e-12);
}

#[test]
fn frozen_parameters_do_not_change_and_get_no_gradient() {
    let params = mlp_params(1);
    params.set_trainable(&["head"]).unwrap();
    let before = bits(&params);
    let data = Data {
        train: &Points::train(40),
        val: &Points::val(20),
    };
    run(&params, data, &epochs(3), &mut stage(&params, 0.1)).unwrap();
    for (name, bits) in bits(&params) {
        assert_eq!(bits == before[&name], name.starts_with("body"), "{name}");
    }

    // While the body is frozen, the backward pass computes gradients for only the two parameters of
    // the head. Once the body is trainable, it computes gradients for all six parameters.
    let model = Builder::default().build(params.var_builder()).unwrap();
    let batch = Points::train(8).epoch(0, 0).next().unwrap().unwrap();
    let features = model
        .forward_layers(&batch.inputs, 0..2, Mode::Eval)
        .unwrap();
    assert!(!features.track_op());
    let logits = model.forward_layers(&features, 2..3, Mode::Eval).unwrap();
    let gradients = |logits: &Tensor| {
        cross_entropy(logits, &batch.targets)
            .unwrap()
            .backward()
            .unwrap()
    };
    let count = |params: &Params, store: &candle_core::backprop::GradStore| {
        params
            .trainable()
            .iter()
            .filter(|(_, var)| store.get(var).is_some())
            .count()
    };
    let head_only = gradients(&logits);
    assert_eq!(count(&params, &head_only), 2);
    let head_only = head_only.get_ids().count();
    params.set_trainable(&["body", "head"]).unwrap();
    let model = Builder::default().build(params.var_builder()).unwrap();
    let all_trainable = gradients(
        &model
            .forward_layers(&batch.inputs, 0..3, Mode::Eval)
            .unwrap(),
    );
    assert_eq!(count(&params, &all_trainable), 6);
    assert!(all_trainable.get_ids().count() >= head_only + 4);
}

#[test]
fn the_best_weights_are_restored() {
    // From epoch 4 on, the classes of the training data are swapped.
    let train = Points {
        flipped_from: 4,
        ..Points::train(60)
    };
    let val = Points::val(40);
    let params = mlp_params(1);
    let mut stage = stage(&params, 0.05);
    let mut best_epochs = Vec::new();
    let mut accuracies = Vec::new();
    let data = Data {
        train: &train,
        val: &val,
    };
    let outcome = fit(
        &params,
        |vb| Builder::default().build(vb),
        data,
        &epochs(8),
        &mut stage,
        &mut |event, _| {
            match event {
                Event::NewBest { epoch, accuracy } => {
                    best_epochs.push((*epoch, *accuracy, bits(&params)))
                }
                Event::PhaseEnd {
                    phase: Phase::Val,
                    accuracy,
                    ..
                } => accuracies.push(*accuracy),
                _ => {}
            }
            Flow::Continue
        },
    );
    let (best_epoch, best_accuracy, weights) = best_epochs.pop().unwrap();
    assert_eq!(
        outcome.unwrap(),
        Outcome::Finished {
            best: Best::Epoch(best_epoch),
            accuracy: best_accuracy
        }
    );
    assert!((1..4).contains(&best_epoch), "{accuracies:?}");
    assert!(accuracies[8] < 0.5 && best_accuracy > 0.9, "{accuracies:?}");
    assert_eq!(
        accuracies.iter().position(|a| *a == best_accuracy),
        Some(best_epoch as usize)
    );
    assert_eq!(bits(&params), weights);
    assert_eq!(evaluate_params(&params, &val).accuracy(), best_accuracy);
}

#[test]
fn a_stage_finished_early_restores_the_best_weights() {
    // From epoch 4 on, the classes of the training data are swapped, so that accuracy decreases.
    let train = Points {
        flipped_from: 4,
        ..Points::train(60)
    };
    let data = Data {
        train: &train,
        val: &Points::val(40),
    };
    for finish_in in [Phase::Train, Phase::Val] {
        let params = mlp_params(1);
        let mut stage = stage(&params, 0.05);
        let (mut best, mut last) = (None, 0);
        let outcome = fit(
            &params,
            |vb| Builder::default().build(vb),
            data,
            &epochs(8),
            &mut stage,
            &mut |event, stage| match event {
                Event::NewBest { .. } => {
                    best = Some(bits(&params));
                    Flow::Continue
                }
                Event::PhaseEnd { phase, epoch, .. } => {
                    last = *epoch;
                    let waited = stage.best().map_or(0, |best| epoch - best.epoch);
                    match waited >= 3 && *phase == finish_in {
                        true => Flow::Finish,
                        false => Flow::Continue,
                    }
                }
                _ => Flow::Continue,
            },
        )
        .unwrap();
        let Outcome::Finished {
            best: Best::Epoch(epoch),
            ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!((last, stage.epoch()), (epoch + 3, epoch + 4));
        assert!(last < 8);
        assert_eq!(Some(bits(&params)), best);
    }
}

#[test]
fn training_and_validation_use_the_loss_of_the_model() {
    let data = Data {
        train: &Points::train(16),
        val: &Points::val(8),
    };
    let losses = |scale| {
        let params = mlp_params(1);
        let builder = Builder {
            loss_scale: Some(scale),
            ..Builder::default()
        };
        let mut losses = Vec::new();
        fit(
            &params,
            |vb| builder.build(vb),
            data,
            &epochs(1),
            &mut stage(&params, 0.0),
            &mut |event, _| {
                if let Event::PhaseEnd { loss, .. } = event {
                    losses.push(*loss);
                }
                Flow::Continue
            },
        )
        .unwrap();
        losses
    };
    let (plain, scaled) = (losses(1.0), losses(4.0));
    assert_eq!(plain.len(), 3);
    assert_eq!(
        scaled,
        plain.iter().map(|loss| 4.0 * loss).collect::<Vec<_>>()
    );
}

#[test]
fn the_first_of_equally_good_epochs_is_the_best() {
    // With learning rate 0, no epoch is better than the baseline.
    let params = mlp_params(1);
    let data = Data {
        train: &Points::train(16),
        val: &Points::val(16),
    };
    let (outcome, events) = run(&params, data, &epochs(2), &mut stage(&params, 0.0)).unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Finished {
                best: Best::Baseline,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| matches!(event, Event::NewBest { .. }))
            .count(),
        1
    );
}

#[test]
fn a_second_stage_starts_from_the_best_weights() {
    let params = mlp_params(1);
    let data = Data {
        train: &Points::train(40),
        val: &Points::val(40),
    };
    params.set_trainable(&["head"]).unwrap();
    run(&params, data, &epochs(2), &mut stage(&params, 0.02)).unwrap();
    let after_first = evaluate_params(&params, data.val);
    params.set_trainable(&["body", "head"]).unwrap();

    let mut second = stage(&params, 0.02);
    let (_, events) = run(&params, data, &epochs(2), &mut second).unwrap();
    let first = phase_ends(&events, Phase::Val)[0];
    assert_eq!(
        (first.1, first.2),
        (after_first.loss(), after_first.accuracy())
    );
}

#[test]
fn equal_runs_produce_equal_bits() {
    let run = |seed| {
        let params = mlp_params(3);
        let data = Data {
            train: &Points::train(50),
            val: &Points::val(20),
        };
        let config = FitConfig { seed, ..epochs(3) };
        let (_, events) = run(&params, data, &config, &mut stage(&params, 0.05)).unwrap();
        (bits(&params), events)
    };
    let (a, b) = (run(5), run(5));
    assert_eq!(a, b);
    assert_ne!(a.1, run(6).1, "the dropout seed has no effect");
}

#[test]
fn all_layers_receive_the_seed_and_the_training_step() {
    let params = mlp_params(1);
    params.set_trainable(&["head"]).unwrap();
    let builder = Builder::default();
    let data = Data {
        train: &Points::train(20),
        val: &Points::val(8),
    };
    fit(
        &params,
        |vb| builder.build(vb),
        data,
        &epochs(2),
        &mut stage(&params, 0.1),
        &mut |_, _| Flow::Continue,
    )
    .unwrap();
    let calls = builder.calls.borrow();
    let keys = |selected: std::ops::Range<usize>| {
        let key = move |(layers, mode): &(std::ops::Range<usize>, Mode)| match mode {
            Mode::Train { seed: 5, step } if *layers == selected => Some(*step),
            _ => None,
        };
        calls.iter().filter_map(key).collect::<Vec<_>>()
    };
    // Two epochs of three batches. The frozen layers run in training mode too.
    assert_eq!(keys(2..3), [0, 1, 2, 3, 4, 5]);
    assert_eq!(keys(0..2), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn first_trainable_layer_is_the_first_with_a_trainable_parameter() {
    let params = mlp_params(1);
    let names = ["body.0", "body.1", "head"].map(String::from);
    for (patterns, expected) in [
        (vec!["head"], 2),
        (vec!["body.1.bias"], 1),
        (vec!["head", "body.0"], 0),
    ] {
        params.set_trainable(&patterns).unwrap();
        assert_eq!(
            first_trainable_layer(&params, &names).unwrap(),
            expected,
            "{patterns:?}"
        );
    }
    let error = first_trainable_layer(&params, &names[1..]).unwrap_err();
    assert!(
        matches!(&error, Error::OutsideLayers { name, .. } if name == "body.0.bias"),
        "{error}"
    );
    params.set_trainable::<&str>(&[]).unwrap();
    assert!(matches!(
        first_trainable_layer(&params, &names),
        Err(Error::NothingTrainable)
    ));
}
