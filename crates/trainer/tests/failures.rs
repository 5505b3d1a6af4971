//! How the loop fails: with an error that says where and what to do, before harm is done.

mod common;

use candle_core::{Device, Tensor};
use common::{Builder, Points, bits, epochs, fresh, run, stage};
use trainer::{
    Batch, Batches, Data, DataLoader, Error, FitConfig, Flow, Phase, Schedule, Stage, fit,
};

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
        &mut |_, _| Flow::Continue,
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

impl<F: Fn(Batch) -> Result<Batch, trainer::BoxError>> DataLoader for Spoilt<F> {
    fn samples(&self) -> usize {
        self.points.samples
    }

    fn epoch(&self, epoch: u64, first: usize) -> Batches<'_> {
        let batches = self.points.epoch(epoch, first).zip(first..);
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
    assert_eq!(found.learning_rates[0].lr, 0.1);
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
