//! Tests of pausing a stage and of resuming it, in memory and from a saved state.

mod common;

use std::collections::BTreeMap;

use candle_core::Tensor;
use common::{
    Builder, MOMENTUM, Points, bits, epochs, mlp_params, phase_ends, run, stage, without_times,
};
use trainer::{
    Data, Error, Event, Flow, Group, Outcome, Params, Phase, SgdConfig, Snapshot, Stage, fit,
};

#[test]
fn a_paused_stage_continues_with_the_same_bits() {
    let data = Data {
        train: &Points {
            flipped_from: 3,
            ..Points::train(50)
        },
        val: &Points::val(20),
    };
    let expected = mlp_params(3);
    let mut uninterrupted = stage(&expected, 0.05);
    let (outcome, events) = run(&expected, data, &epochs(4), &mut uninterrupted).unwrap();

    // Each iteration pauses at a different event.
    for stop_at in 0..events.len() - 1 {
        let params = mlp_params(3);
        let mut stage = stage(&params, 0.05);
        let mut observed = Vec::new();
        let mut stops = 0;
        let first = fit(
            &params,
            |vb| Builder::default().build(vb),
            data,
            &epochs(4),
            &mut stage,
            &mut |event, _| {
                stops += usize::from(observed.len() >= stop_at);
                observed.push(without_times(event));
                if observed.len() > stop_at {
                    Flow::Pause
                } else {
                    Flow::Continue
                }
            },
        );
        let stopped = first.unwrap();
        let (second, rest) = run(&params, data, &epochs(4), &mut stage).unwrap();
        assert_eq!(second, outcome, "paused at {:?}", events[stop_at]);
        assert_eq!(
            bits(&params),
            bits(&expected),
            "paused at {:?}",
            events[stop_at]
        );
        // A pause after the last validation has no effect, because the stage is complete. A pause
        // at `PhaseEnd` of a validation can be followed by `NewBest`, so two events are allowed.
        if stopped == Outcome::Paused {
            assert!(
                stops <= 2,
                "the stage continued after {:?}",
                events[stop_at]
            );
            observed.extend(rest);
            for phase in [Phase::Train, Phase::Val] {
                assert_eq!(
                    phase_ends(&observed, phase),
                    phase_ends(&events, phase),
                    "paused at {:?}",
                    events[stop_at]
                );
            }
        }
    }
}

fn read(snapshots: BTreeMap<String, Snapshot>) -> BTreeMap<String, Tensor> {
    let snapshots = snapshots.into_iter();
    snapshots
        .map(|(name, snapshot)| (name, snapshot.to_tensor().unwrap()))
        .collect()
}

#[test]
fn a_stage_saved_at_any_event_resumes_to_the_same_bits() {
    for config in [MOMENTUM, SgdConfig::default()] {
        let data = Data {
            train: &Points {
                flipped_from: 3,
                ..Points::train(50)
            },
            val: &Points::val(20),
        };
        let groups = || vec![Group::new("body", 0.05), Group::new("head", 0.1)];
        let expected = mlp_params(3);
        let mut stage = Stage::new(&expected, config, groups()).unwrap();
        let mut saved = Vec::new();
        fit(
            &expected,
            |vb| Builder::default().build(vb),
            data,
            &epochs(4),
            &mut stage,
            &mut |event, stage| {
                // At `StageEnd` the best weights are already restored, so a stage cannot resume
                // from this state.
                if !matches!(event, Event::StageEnd { .. }) {
                    let best = match stage.best() {
                        Some(best) if !stage.state().best_is_current() => {
                            best.weights.tensors().clone()
                        }
                        _ => Default::default(),
                    };
                    saved.push((
                        stage.state(),
                        expected.snapshot(|_| true).unwrap(),
                        stage.sgd().snapshot_velocities().unwrap(),
                        best,
                    ));
                }
                Flow::Continue
            },
        )
        .unwrap();
        assert!(saved.iter().any(|(.., best)| !best.is_empty()));
        assert!(saved.iter().any(|(state, ..)| state.batch == 3));

        for (state, weights, velocities, best) in saved {
            // The snapshots are read after training, which must not have changed their values.
            let (weights, velocities) = (read(weights), read(velocities));
            let params = Params::from_tensors(weights, &candle_core::Device::Cpu).unwrap();
            params.set_trainable(&["body", "head"]).unwrap();
            let mut resumed =
                Stage::resume(&params, config, groups(), state, velocities, best).unwrap();
            run(&params, data, &epochs(4), &mut resumed).unwrap();
            assert_eq!(bits(&params), bits(&expected), "{state:?}");
            assert_eq!(resumed.state(), stage.state());
        }
    }
}

#[test]
fn a_finished_stage_stays_finished_after_a_pause() {
    let data = Data {
        train: &Points::train(50),
        val: &Points::val(20),
    };
    // Finishes the stage after the first step of epoch 2, and pauses it two steps later.
    let answer = |event: &Event| match event {
        Event::BatchDone {
            phase: Phase::Train,
            epoch: 2,
            progress,
        } if progress.batch == 0 => Flow::Finish,
        Event::BatchDone {
            phase: Phase::Train,
            epoch: 2,
            progress,
        } if progress.batch == 2 => Flow::Pause,
        _ => Flow::Continue,
    };
    let fit = |params: &Params, stage: &mut Stage, answer: &dyn Fn(&Event) -> Flow| {
        let build = |vb| Builder::default().build(vb);
        fit(params, build, data, &epochs(4), stage, &mut |event, _| {
            answer(event)
        })
        .unwrap()
    };
    let params = mlp_params(3);
    let mut stage = stage(&params, 0.05);
    assert_eq!(fit(&params, &mut stage, &answer), Outcome::Paused);
    let state = stage.state();
    assert_eq!(
        (state.epoch, state.batch, state.last_epoch),
        (2, 3, Some(2))
    );

    let velocities = read(stage.sgd().snapshot_velocities().unwrap());
    let best = stage.best().unwrap().weights.tensors().clone();
    let groups = vec![Group::everything(0.05)];
    let mut resumed = Stage::resume(&params, MOMENTUM, groups, state, velocities, best).unwrap();
    for _ in 0..2 {
        let outcome = fit(&params, &mut resumed, &|_| Flow::Continue);
        assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
        assert_eq!((resumed.epoch(), resumed.step()), (3, 2 * 7));
    }
}

#[test]
fn a_saved_state_of_another_model_is_an_error() {
    let params = mlp_params(3);
    let data = Data {
        train: &Points::train(50),
        val: &Points::val(20),
    };
    let mut before = stage(&params, 0.05);
    run(&params, data, &epochs(2), &mut before).unwrap();
    let resume = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut velocities = read(before.sgd().snapshot_velocities().unwrap());
        change(&mut velocities);
        let best = before.best().unwrap().weights.tensors().clone();
        let groups = vec![Group::everything(0.05)];
        Stage::resume(&params, MOMENTUM, groups, before.state(), velocities, best)
    };
    resume(&|_| ()).unwrap();
    let name = || "head.bias".to_owned();
    let other = Tensor::zeros(77, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    for error in [
        resume(&|velocities| drop(velocities.remove(&name()))).unwrap_err(),
        resume(&|velocities| drop(velocities.insert(name(), other.clone()))).unwrap_err(),
        resume(&|velocities| drop(velocities.insert("tail".to_owned(), other.clone())))
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::SavedState { .. }), "{error}");
    }
}
