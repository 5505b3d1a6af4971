//! A stage that stops goes on as if it had not, from memory and from what was kept of it.

mod common;

use std::collections::BTreeMap;

use candle_core::Tensor;
use common::{Builder, MOMENTUM, Points, bits, epochs, fresh, passes, run, stage, timeless};
use trainer::{
    Data, Error, Event, Flow, Group, Outcome, Params, Phase, SgdConfig, Snapshot, Stage, fit,
};

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
            &mut |event, _| {
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

/// The tensors that were held.
fn read(snapshot: BTreeMap<String, Snapshot>) -> BTreeMap<String, Tensor> {
    let tensor = |(name, snapshot): (String, Snapshot)| {
        let mut values = Vec::new();
        let add = |chunk: &[f32]| -> candle_core::Result<()> {
            values.extend_from_slice(chunk);
            Ok(())
        };
        snapshot.try_for_each_chunk(add).unwrap();
        let tensor = Tensor::from_vec(values, snapshot.shape(), &candle_core::Device::Cpu);
        (name, tensor.unwrap())
    };
    snapshot.into_iter().map(tensor).collect()
}

#[test]
fn a_stage_resumed_from_what_was_kept_at_any_event_ends_the_same() {
    for config in [MOMENTUM, SgdConfig::default()] {
        let data = Data {
            train: &Points {
                flipped_from: 3,
                ..Points::train(50)
            },
            val: &Points::val(20),
        };
        let groups = || vec![Group::new("body", 0.05), Group::new("head", 0.1)];
        let whole = fresh(3);
        let mut stage = Stage::new(&whole, config, groups()).unwrap();
        let mut kept = Vec::new();
        fit(
            &whole,
            |vb| Builder::default().build(vb),
            data,
            &epochs(5),
            &mut stage,
            &mut |event, stage| {
                // After the end of a stage its weights are the best ones, which is no place to go on from.
                if !matches!(event, Event::StageEnd { .. }) {
                    let best = match stage.best() {
                        Some(best) if !stage.state().best_is_current() => {
                            best.weights.tensors().clone()
                        }
                        _ => Default::default(),
                    };
                    kept.push((
                        stage.state(),
                        whole.snapshot(|_| true).unwrap(),
                        stage.sgd().snapshot_velocities().unwrap(),
                        best,
                    ));
                }
                Flow::Continue
            },
        )
        .unwrap();
        assert!(kept.iter().any(|(.., best)| !best.is_empty()));
        assert!(kept.iter().any(|(state, ..)| state.batch == 3));

        for (state, weights, velocities, best) in kept {
            // Read long after the weights have changed.
            let (weights, velocities) = (read(weights), read(velocities));
            let params = Params::from_tensors(weights, &candle_core::Device::Cpu).unwrap();
            params.set_trainable(&["body", "head"]).unwrap();
            let mut resumed =
                Stage::resume(&params, config, groups(), state, velocities, best).unwrap();
            run(&params, data, &epochs(5), &mut resumed).unwrap();
            assert_eq!(bits(&params), bits(&whole), "{position:?}");
            assert_eq!(resumed.state(), stage.state());
        }
    }
}

#[test]
fn a_saved_state_of_another_model_is_refused() {
    let params = fresh(3);
    let data = Data {
        train: &Points::train(50),
        val: &Points::val(20),
    };
    let mut before = stage(&params, 0.05);
    run(&params, data, &epochs(3), &mut before).unwrap();
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
