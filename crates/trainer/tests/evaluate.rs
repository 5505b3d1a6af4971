//! Tests of `evaluate`: predictions, confusion matrix, accuracy, the cache for the outputs of frozen
//! layers, and an observer that ends the evaluation.

mod common;

use std::cell::Cell;
use std::ops::ControlFlow;

use common::{
    Builder, CLASSES, Points, bits, epochs, evaluate_params, mlp_params, stage, without_times,
};
use trainer::{ConfusionMatrix, Data, FitConfig, Flow, FrozenCache, Mode, evaluate, fit};

#[test]
fn evaluation_counts_every_sample() {
    let params = mlp_params(1);
    let split = Points::val(21);
    let evaluation = evaluate_params(&params, &split);
    assert_eq!(
        evaluation
            .predictions
            .iter()
            .map(|p| p.sample)
            .collect::<Vec<_>>(),
        (0..21).collect::<Vec<_>>()
    );
    let mut confusion = ConfusionMatrix::new(CLASSES);
    for p in &evaluation.predictions {
        assert_eq!(p.target, split.point(p.sample).1);
        confusion.add(p.target as usize, p.prediction as usize);
    }
    assert_eq!(evaluation.confusion, confusion);
    let correct: u64 = (0..CLASSES)
        .map(|class| confusion.rows()[class][class])
        .sum();
    assert_eq!(evaluation.accuracy(), correct as f64 / 21.0);
}

#[test]
fn caching_frozen_outputs_does_not_change_results() {
    let run_with_cache = |cache_bytes| {
        let params = mlp_params(3);
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
            ..epochs(3)
        };
        fit(
            &params,
            |vb| builder.build(vb),
            data,
            &config,
            &mut stage(&params, 0.05),
            &mut |event, _| {
                events.push(without_times(event));
                Flow::Continue
            },
        )
        .unwrap();
        let frozen = builder
            .calls
            .borrow()
            .iter()
            .filter(|(layers, mode)| *layers == (0..2) && *mode == Mode::Eval)
            .count();
        (bits(&params), events, val.batches_loaded.get(), frozen)
    };
    let batch = 8 * common::HIDDEN * size_of::<f32>();
    let (bits, events, loaded, frozen) = run_with_cache(0);
    assert_eq!((loaded, frozen), (4 * 3, 4 * 3));
    // Cache sizes that fit all three batches, only the first one, and all but one byte of two.
    for (bytes, expected) in [(1 << 30, 3), (batch, 3 + 3 * 2), (2 * batch - 1, 3 + 3 * 2)] {
        let cached = run_with_cache(bytes);
        assert_eq!((cached.2, cached.3), (expected, expected), "{bytes} bytes");
        assert_eq!((&cached.0, &cached.1), (&bits, &events), "{bytes} bytes");
    }
}

#[test]
fn evaluation_ends_if_the_observer_breaks() {
    let split = Points::val(40);
    let model = Builder::default()
        .build(mlp_params(1).frozen_var_builder())
        .unwrap();
    let batches = Cell::new(0);
    let evaluation = evaluate(&model, &split, &mut FrozenCache::off(), &mut |_| {
        batches.set(batches.get() + 1);
        if batches.get() == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(evaluation.unwrap().is_none());
    assert_eq!(split.batches_loaded.get(), 2);
}
