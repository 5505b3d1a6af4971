//! The loop: what it trains, what it leaves alone, what it tells, and how it fails.

mod common;

use std::cell::Cell;

use candle_core::{Device, Tensor};
use common::{Builder, CLASSES, Points, bits, fresh};
use trainer::{
    Batch, Batches, Confusion, Data, Error, Evaluation, Event, FitConfig, Flow, FrozenCache, Group,
    Mode, Model, Outcome, Params, Phase, Schedule, SgdConfig, Split, Stage, cross_entropy,
    evaluate, fit, frozen_layers,
};

const MOMENTUM: SgdConfig = SgdConfig {
    momentum: 0.9,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
};

fn epochs(epochs: u64) -> FitConfig {
    FitConfig {
        epochs,
        seed: 5,
        ..FitConfig::default()
    }
}

fn stage(params: &Params, rate: f64) -> Stage {
    Stage::new(params, MOMENTUM, vec![Group::everything(rate)]).unwrap()
}

/// Runs a stage and collects its events without their times.
fn run(
    params: &Params,
    data: Data<'_>,
    config: &FitConfig,
    stage: &mut Stage,
) -> Result<(Outcome, Vec<Event>), Error> {
    let mut events = Vec::new();
    let builder = Builder::default();
    let outcome = fit(
        params,
        |vb| builder.build(vb),
        data,
        config,
        stage,
        &mut |event| {
            events.push(timeless(event));
            Flow::Continue
        },
    )?;
    Ok((outcome, events))
}

fn timeless(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::PhaseEnd {
            seconds,
            samples_per_second,
            ..
        } => (*seconds, *samples_per_second) = (0.0, 0.0),
        Event::StageEnd { seconds, .. } => *seconds = 0.0,
        _ => {}
    }
    event
}

/// (epoch, loss, accuracy) of every pass of a phase.
fn passes(events: &[Event], wanted: Phase) -> Vec<(u64, f64, f64)> {
    let pass = |event: &Event| match *event {
        Event::PhaseEnd {
            phase,
            epoch,
            loss,
            accuracy,
            ..
        } if phase == wanted => Some((epoch, loss, accuracy)),
        _ => None,
    };
    events.iter().filter_map(pass).collect()
}

fn evaluated(params: &Params, split: &dyn Split) -> Evaluation {
    let model = Builder::default()
        .build(params.frozen_var_builder())
        .unwrap();
    evaluate(&model, split, &mut FrozenCache::off(), &mut |_| {
        Flow::Continue
    })
    .unwrap()
    .unwrap()
}

#[test]
fn two_groups_learn_and_the_first_epoch_only_validates() {
    let params = fresh(1);
    let groups = vec![Group::new("body", 0.05), Group::new("head", 0.1)];
    let mut stage = Stage::new(&params, MOMENTUM, groups).unwrap();
    let (train, val) = (Points::train(60), Points::val(20));
    let start = evaluated(&params, &val);
    let config = FitConfig {
        schedule: Schedule::StepLr {
            step: 4,
            gamma: 0.1,
        },
        ..epochs(6)
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

    let (trained, validated) = (passes(&events, Phase::Train), passes(&events, Phase::Val));
    assert_eq!(
        trained.iter().map(|pass| pass.0).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        validated.iter().map(|pass| pass.0).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert_eq!(
        (validated[0].1, validated[0].2),
        (start.loss(), start.accuracy())
    );
    let Outcome::Finished { best_accuracy, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(best_accuracy >= 0.95, "{best_accuracy}");

    // The schedule counts training epochs: 1 to 4 at the full rate, 5 at a tenth.
    let rates = |event: &Event| match event {
        Event::EpochStart { rates, .. } => {
            Some(rates.iter().map(|group| group.rate).collect::<Vec<_>>())
        }
        _ => None,
    };
    let rates: Vec<_> = events.iter().filter_map(rates).collect();
    assert_eq!(rates[..5], vec![vec![0.05, 0.1]; 5]);
    assert!((rates[5][0] - 0.005).abs() < 1e-12 && (rates[5][1] - 0.01).abs() < 1e-12);

    // 60 samples are 7 batches of 8 and one of 4.
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
            frozen_layers: 0,
            ..
        })
    ));
    assert!(matches!(events.last(), Some(Event::StageEnd { .. })));
}

#[test]
fn means_are_over_samples_not_batches() {
    // At rate 0 the batches of an epoch see the same weights: the loss of a pass is that of its samples.
    let params = fresh(1);
    let train = Points {
        shuffled: false,
        ..Points::train(19)
    };
    let mut rest = stage(&params, 0.0);
    let config = FitConfig {
        validate_first: false,
        seed: 0,
        ..epochs(1)
    };
    let all = Points {
        batch: 19,
        ..Points::train(19)
    };
    let (_, events) = run(
        &params,
        Data {
            train: &train,
            val: &Points {
                shuffled: false,
                ..train_like(&train)
            },
        },
        &config,
        &mut rest,
    )
    .unwrap();
    let whole = evaluated(
        &params,
        &Points {
            shuffled: false,
            ..all
        },
    );
    let (_, loss, accuracy) = passes(&events, Phase::Val)[0];
    assert!((loss - whole.loss()).abs() < 1e-6);
    assert_eq!(accuracy, whole.accuracy());
}

fn train_like(points: &Points) -> Points {
    Points {
        samples: points.samples,
        batch: points.batch,
        seed: points.seed,
        ..Points::train(0)
    }
}

#[test]
fn frozen_bits_never_change_and_get_no_gradient() {
    let params = fresh(1);
    params.set_trainable(&["head"]).unwrap();
    let before = bits(&params);
    let data = Data {
        train: &Points::train(40),
        val: &Points::val(20),
    };
    run(&params, data, &epochs(4), &mut stage(&params, 0.1)).unwrap();
    for (name, bits) in bits(&params) {
        assert_eq!(bits == before[&name], name.starts_with("body"), "{name}");
    }

    // Backward through the whole model, not only through what the loop lets it see.
    let model = Builder::default().build(params.var_builder()).unwrap();
    let batch = Points::train(8).pass(0, 0).next().unwrap().unwrap();
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
    let of = |params: &Params, store: &candle_core::backprop::GradStore| {
        params
            .trainable()
            .iter()
            .filter(|(_, var)| store.get(var).is_some())
            .count()
    };
    let head_only = gradients(&logits);
    assert_eq!(of(&params, &head_only), 2);
    let head_only = head_only.get_ids().count();
    params.set_trainable(&["body", "head"]).unwrap();
    let model = Builder::default().build(params.var_builder()).unwrap();
    let whole = gradients(
        &model
            .forward_layers(&batch.inputs, 0..3, Mode::Eval)
            .unwrap(),
    );
    assert_eq!(of(&params, &whole), 6);
    assert!(whole.get_ids().count() >= head_only + 4);
}

#[test]
fn the_best_weights_are_restored() {
    // From epoch 4 on, the train split teaches the opposite.
    let train = Points {
        flipped_from: 4,
        ..Points::train(60)
    };
    let val = Points::val(40);
    let params = fresh(1);
    let mut stage = stage(&params, 0.05);
    let mut kept = Vec::new();
    let mut accuracies = Vec::new();
    let data = Data {
        train: &train,
        val: &val,
    };
    let outcome = fit(
        &params,
        |vb| Builder::default().build(vb),
        data,
        &epochs(9),
        &mut stage,
        &mut |event| {
            match event {
                Event::NewBest { epoch, accuracy } => kept.push((*epoch, *accuracy, bits(&params))),
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
    let (best_epoch, best_accuracy, weights) = kept.pop().unwrap();
    assert_eq!(
        outcome.unwrap(),
        Outcome::Finished {
            best_epoch,
            best_accuracy
        }
    );
    assert!((1..4).contains(&best_epoch), "{accuracies:?}");
    assert!(accuracies[8] < 0.5 && best_accuracy > 0.9, "{accuracies:?}");
    // Strictly greater: the first of equals is the best.
    assert_eq!(
        accuracies.iter().position(|a| *a == best_accuracy),
        Some(best_epoch as usize)
    );
    assert_eq!(bits(&params), weights);
    assert_eq!(evaluated(&params, &val).accuracy(), best_accuracy);
}

#[test]
fn a_second_stage_starts_from_the_best_weights_without_momentum() {
    let params = fresh(1);
    let data = Data {
        train: &Points::train(40),
        val: &Points::val(40),
    };
    params.set_trainable(&["head"]).unwrap();
    run(&params, data, &epochs(3), &mut stage(&params, 0.02)).unwrap();
    let between = evaluated(&params, data.val);
    params.set_trainable(&["body", "head"]).unwrap();

    let mut second = stage(&params, 0.02);
    let (_, events) = run(&params, data, &epochs(3), &mut second).unwrap();
    let first = passes(&events, Phase::Val)[0];
    assert_eq!((first.1, first.2), (between.loss(), between.accuracy()));
}

#[test]
fn the_same_run_gives_the_same_bits() {
    let run = |seed| {
        let params = fresh(3);
        let data = Data {
            train: &Points::train(50),
            val: &Points::val(20),
        };
        let config = FitConfig { seed, ..epochs(4) };
        let (_, events) = run(&params, data, &config, &mut stage(&params, 0.05)).unwrap();
        (bits(&params), events)
    };
    let (a, b) = (run(5), run(5));
    assert_eq!(a, b);
    assert_ne!(a.1, run(6).1, "the seed reaches the model");
}

#[test]
fn a_stopped_stage_goes_on_as_if_it_had_not_stopped() {
    let data = Data {
        train: &Points {
            flipped_from: 3,
            ..Points::train(50)
        },
        val: &Points::val(20),
    };
    let whole = fresh(3);
    let mut uninterrupted = stage(&whole, 0.05);
    let (outcome, events) = run(&whole, data, &epochs(5), &mut uninterrupted).unwrap();

    // Stop at every single event once, whatever it is.
    for stop_at in 0..events.len() - 1 {
        let params = fresh(3);
        let mut stage = stage(&params, 0.05);
        let mut seen = Vec::new();
        let mut stops = 0;
        let first = fit(
            &params,
            |vb| Builder::default().build(vb),
            data,
            &epochs(5),
            &mut stage,
            &mut |event| {
                stops += usize::from(seen.len() >= stop_at);
                seen.push(timeless(event));
                if seen.len() > stop_at {
                    Flow::Stop
                } else {
                    Flow::Continue
                }
            },
        );
        let stopped = first.unwrap();
        let (second, rest) = run(&params, data, &epochs(5), &mut stage).unwrap();
        assert_eq!(second, outcome, "stopped at {:?}", events[stop_at]);
        assert_eq!(
            bits(&params),
            bits(&whole),
            "stopped at {:?}",
            events[stop_at]
        );
        // The very last events come after all work: then it has simply finished.
        if stopped == Outcome::Stopped {
            assert!(stops <= 2, "it went on after {:?}", events[stop_at]);
            seen.extend(rest);
            for phase in [Phase::Train, Phase::Val] {
                assert_eq!(
                    passes(&seen, phase),
                    passes(&events, phase),
                    "stopped at {:?}",
                    events[stop_at]
                );
            }
        }
    }
}

#[test]
fn remembered_frozen_outputs_change_nothing() {
    let frozen_run = |cache_bytes| {
        let params = fresh(3);
        params.set_trainable(&["head"]).unwrap();
        let val = Points::val(21);
        let data = Data {
            train: &Points::train(30),
            val: &val,
        };
        let builder = Builder::default();
        let mut events = Vec::new();
        let config = FitConfig {
            cache_bytes,
            ..epochs(4)
        };
        fit(
            &params,
            |vb| builder.build(vb),
            data,
            &config,
            &mut stage(&params, 0.05),
            &mut |event| {
                events.push(timeless(event));
                Flow::Continue
            },
        )
        .unwrap();
        let frozen = builder
            .seen
            .borrow()
            .iter()
            .filter(|(layers, mode)| *layers == (0..2) && *mode == Mode::Eval)
            .count();
        (bits(&params), events, val.read.get(), frozen)
    };
    let batch = 8 * common::HIDDEN * size_of::<f32>();
    let (bits, events, read, frozen) = frozen_run(0);
    assert_eq!((read, frozen), (4 * 3, 4 * 3));
    // All three batches, only the first, and a byte too little for the second.
    for (bytes, expected) in [(1 << 30, 3), (batch, 3 + 3 * 2), (2 * batch - 1, 3 + 3 * 2)] {
        let cached = frozen_run(bytes);
        assert_eq!((cached.2, cached.3), (expected, expected), "{bytes} bytes");
        assert_eq!((&cached.0, &cached.1), (&bits, &events), "{bytes} bytes");
    }
}

#[test]
fn dropout_keys_follow_the_steps() {
    let params = fresh(1);
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
        &epochs(3),
        &mut stage(&params, 0.1),
        &mut |_| Flow::Continue,
    )
    .unwrap();
    let seen = builder.seen.borrow();
    let keys = |wanted: std::ops::Range<usize>| {
        let key = move |(layers, mode): &(std::ops::Range<usize>, Mode)| match mode {
            Mode::Train { seed: 5, step } if *layers == wanted => Some(*step),
            _ => None,
        };
        seen.iter().filter_map(key).collect::<Vec<_>>()
    };
    // Two epochs of three batches; the frozen layers are in training mode too.
    assert_eq!(keys(2..3), [0, 1, 2, 3, 4, 5]);
    assert_eq!(keys(0..2), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn evaluation_counts_every_sample() {
    let params = fresh(1);
    let split = Points::val(21);
    let found = evaluated(&params, &split);
    assert_eq!(
        found
            .predictions
            .iter()
            .map(|p| p.sample)
            .collect::<Vec<_>>(),
        (0..21).collect::<Vec<_>>()
    );
    let mut confusion = Confusion::new(CLASSES);
    for p in &found.predictions {
        assert_eq!(p.target, split.point(p.sample).1);
        confusion.add(p.target as usize, p.prediction as usize);
    }
    assert_eq!(found.confusion, confusion);
    let right: u64 = (0..CLASSES)
        .map(|class| confusion.rows()[class][class])
        .sum();
    assert_eq!(found.accuracy(), right as f64 / 21.0);
}

#[test]
fn the_frozen_part_ends_at_the_first_layer_that_trains() {
    let params = fresh(1);
    let names = ["body.0", "body.1", "head"].map(String::from);
    for (patterns, expected) in [
        (vec!["head"], 2),
        (vec!["body.1.bias"], 1),
        (vec!["head", "body.0"], 0),
    ] {
        params.set_trainable(&patterns).unwrap();
        assert_eq!(
            frozen_layers(&params, &names).unwrap(),
            expected,
            "{patterns:?}"
        );
    }
    let error = frozen_layers(&params, &names[1..]).unwrap_err();
    assert!(
        matches!(&error, Error::OutsideLayers { name, .. } if name == "body.0.bias"),
        "{error}"
    );
    params.set_trainable::<&str>(&[]).unwrap();
    assert!(matches!(
        frozen_layers(&params, &names),
        Err(Error::NothingTrains)
    ));
}

#[test]
fn a_cut_graph_is_an_error_that_names_the_parameters() {
    let params = fresh(1);
    let before = bits(&params);
    let builder = Builder {
        cut: true,
        ..Builder::default()
    };
    let data = Data {
        train: &Points::train(16),
        val: &Points::val(8),
    };
    let mut stage = stage(&params, 0.1);
    let error = fit(
        &params,
        |vb| builder.build(vb),
        data,
        &epochs(2),
        &mut stage,
        &mut |_| Flow::Continue,
    )
    .unwrap_err();
    let Error::MissingGradient { names } = error else {
        panic!("{error}")
    };
    assert_eq!(
        names,
        [
            "body.0.bias",
            "body.0.weight",
            "body.1.bias",
            "body.1.weight"
        ]
    );
    assert_eq!(bits(&params), before, "nothing was updated");
}

/// A split whose batch `at` is spoilt by `spoil`.
struct Spoilt<F> {
    points: Points,
    at: usize,
    spoil: F,
}

impl<F: Fn(Batch) -> Result<Batch, trainer::BoxError>> Split for Spoilt<F> {
    fn samples(&self) -> usize {
        self.points.samples
    }

    fn pass(&self, epoch: u64, first: usize) -> Batches<'_> {
        let batches = self.points.pass(epoch, first).zip(first..);
        Box::new(batches.map(|(batch, at)| {
            if at == self.at {
                (self.spoil)(batch?)
            } else {
                batch
            }
        }))
    }
}

fn spoilt(spoil: impl Fn(Batch) -> Result<Batch, trainer::BoxError>) -> Error {
    let params = fresh(1);
    let train = Spoilt {
        points: Points {
            shuffled: false,
            ..Points::train(20)
        },
        at: 1,
        spoil,
    };
    let data = Data {
        train: &train,
        val: &Points::val(8),
    };
    run(&params, data, &epochs(2), &mut stage(&params, 0.1))
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn a_loss_that_is_no_number_says_where() {
    let error = spoilt(|batch| {
        Ok(Batch {
            inputs: (batch.inputs * f64::NAN)?,
            ..batch
        })
    });
    let text = error.to_string();
    let Error::NonFiniteLoss(found) = error else {
        panic!("{text}")
    };
    assert!(found.loss.is_nan());
    assert_eq!(
        (found.phase, found.epoch, found.batch),
        (Phase::Train, Some(1), 1)
    );
    assert_eq!(found.samples, (8..16).collect::<Vec<_>>());
    assert_eq!(found.rates[0].rate, 0.1);
    assert!(
        text.contains("batch 1 of epoch 1") && text.contains("smaller"),
        "{text}"
    );

    // A rate that is far too large: weights overflow, and the next loss shows it.
    let params = fresh(1);
    let data = Data {
        train: &Points::train(64),
        val: &Points::val(8),
    };
    let error = run(&params, data, &epochs(9), &mut stage(&params, 1e38))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss(_)), "{error}");
}

#[test]
fn spoilt_batches_are_errors() {
    let error = spoilt(|_| Err("the disk is gone".into()));
    assert!(
        matches!(
            &error,
            Error::Data {
                phase: Phase::Train,
                epoch: Some(1),
                batch: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the disk is gone"
    );

    let error = spoilt(|batch| {
        Ok(Batch {
            targets: Tensor::full(2u32, 8, &Device::Cpu)?,
            ..batch
        })
    });
    assert!(
        matches!(
            &error,
            Error::Target {
                sample: 8,
                target: 2,
                classes: 2
            }
        ),
        "{error}"
    );

    let error = spoilt(|batch| {
        Ok(Batch {
            targets: batch.targets.narrow(0, 0, 7)?,
            ..batch
        })
    });
    assert!(
        matches!(&error, Error::Shape { got, .. } if got == &[7]),
        "{error}"
    );

    let error = spoilt(|batch| {
        Ok(Batch {
            inputs: batch.inputs.narrow(1, 0, 2)?,
            ..batch
        })
    });
    assert!(matches!(&error, Error::Candle { .. }), "{error}");
}

#[test]
fn wrong_settings_are_refused_before_anything_runs() {
    let params = fresh(1);
    let (train, val, none) = (Points::train(16), Points::val(8), Points::val(0));
    let data = Data {
        train: &train,
        val: &val,
    };
    let refused = |data: Data<'_>, config: &FitConfig, stage: &mut Stage| {
        run(&params, data, config, stage).map(|_| ()).unwrap_err()
    };
    let mut whole = stage(&params, 0.1);
    assert!(matches!(
        refused(data, &epochs(0), &mut whole),
        Error::Setting { .. }
    ));
    let schedule = FitConfig {
        schedule: Schedule::StepLr {
            step: 0,
            gamma: 0.1,
        },
        ..epochs(2)
    };
    assert!(matches!(
        refused(data, &schedule, &mut whole),
        Error::Setting { .. }
    ));
    let empty = Data { val: &none, ..data };
    assert!(matches!(
        refused(empty, &epochs(2), &mut whole),
        Error::EmptySplit { phase: Phase::Val }
    ));

    params.set_trainable(&["head"]).unwrap();
    let error = refused(data, &epochs(2), &mut whole);
    assert!(
        matches!(&error, Error::OptimizerMismatch { names } if names.len() == 4),
        "{error}"
    );
    assert_eq!(train.read.get() + val.read.get(), 0);
}

#[test]
fn evaluation_stops_when_asked() {
    let split = Points::val(40);
    let model = Builder::default()
        .build(fresh(1).frozen_var_builder())
        .unwrap();
    let batches = Cell::new(0);
    let found = evaluate(&model, &split, &mut FrozenCache::off(), &mut |_| {
        batches.set(batches.get() + 1);
        if batches.get() == 2 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    });
    assert!(found.unwrap().is_none());
    assert_eq!(split.read.get(), 2);
}
