//! Evaluation: what it counts, and that remembering the output of frozen layers changes nothing.

mod common;

use std::cell::Cell;

use common::{Builder, CLASSES, Points, bits, epochs, evaluated, fresh, stage, timeless};
use trainer::{ConfusionMatrix, Data, FitConfig, Flow, FrozenCache, Mode, evaluate, fit};

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
    let mut confusion = ConfusionMatrix::new(CLASSES);
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
            &mut |event, _| {
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
