//! Tests of the errors returned by the training loop, and of the epoch, batch and samples in them.

mod common;

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use common::{Builder, Points, bits, epochs, mlp_params, run, stage};
use trainer::{
    Batch, Batches, Data, DataLoader, Error, FitConfig, Flow, FrozenCache, Phase, Schedule, Stage,
    evaluate, fit,
};

#[test]
fn a_cut_graph_is_an_error_with_the_parameter_names() {
    let params = mlp_params(1);
    let before = bits(&params);
    let builder = Builder {
        cuts_graph: true,
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
        &epochs(1),
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
    assert_eq!(bits(&params), before, "the parameters were updated");
}

/// A data loader that passes batch `bad_batch` through `corrupt`.
struct Corrupted<F> {
    points: Points,
    bad_batch: usize,
    corrupt: F,
}

impl<F: Fn(Batch) -> Result<Batch, trainer::BoxError>> DataLoader for Corrupted<F> {
    fn samples(&self) -> usize {
        self.points.samples
    }

    fn epoch(&self, epoch: u64, first_batch: usize) -> Batches<'_> {
        let batches = self.points.epoch(epoch, first_batch).zip(first_batch..);
        Box::new(batches.map(|(batch, index)| {
            if index == self.bad_batch {
                (self.corrupt)(batch?)
            } else {
                batch
            }
        }))
    }
}

/// Returns the error of a stage whose training batch 1 is passed through `corrupt`.
fn error_with(corrupt: impl Fn(Batch) -> Result<Batch, trainer::BoxError>) -> Error {
    let params = mlp_params(1);
    let train = Corrupted {
        points: Points {
            shuffled: false,
            ..Points::train(20)
        },
        bad_batch: 1,
        corrupt,
    };
    let data = Data {
        train: &train,
        val: &Points::val(8),
    };
    run(&params, data, &epochs(1), &mut stage(&params, 0.1))
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn a_non_finite_loss_is_an_error_with_its_location() {
    let error = error_with(|batch| {
        Ok(Batch {
            inputs: (batch.inputs * f64::NAN)?,
            ..batch
        })
    });
    assert_eq!(
        error.to_string(),
        "the loss is NaN in train batch 1 of epoch 1 (batches count from 0)"
    );
    assert_eq!(
        error.help().unwrap(),
        "divide the learning rates by ten (1e-1), and check samples \
         [8, 9, 10, 11, 12, 13, 14, 15] for non-finite values"
    );
    let Error::NonFiniteLoss(non_finite) = error else {
        panic!("{error}")
    };
    assert!(non_finite.loss.is_nan());
    assert_eq!(
        (non_finite.phase, non_finite.epoch, non_finite.batch),
        (Phase::Train, Some(1), 1)
    );
    assert_eq!(non_finite.samples, (8..16).collect::<Vec<_>>());
    assert_eq!(non_finite.learning_rates[0].lr, 0.1);

    // This learning rate is so large that the weights overflow and a later loss is not finite.
    let params = mlp_params(1);
    let data = Data {
        train: &Points::train(64),
        val: &Points::val(8),
    };
    let error = run(&params, data, &epochs(8), &mut stage(&params, 1e38))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss(_)), "{error}");
}

#[test]
fn the_help_for_a_non_finite_loss_outside_of_training_names_no_learning_rates() {
    let split = Corrupted {
        points: Points::val(8),
        bad_batch: 0,
        corrupt: |batch: Batch| {
            Ok(Batch {
                inputs: (batch.inputs * f64::NAN)?,
                ..batch
            })
        },
    };
    let model = Builder::default().build(mlp_params(1).frozen_var_builder());
    let error = evaluate(
        &model.unwrap(),
        &split,
        &mut FrozenCache::off(),
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap_err();
    assert_eq!(
        error.help().unwrap(),
        "check the weights and samples [0, 1, 2, 3, 4, 5, 6, 7] for non-finite values"
    );
}

#[test]
fn batches_that_are_invalid_or_cannot_be_loaded_are_errors() {
    let error = error_with(|_| Err("the disk was removed".into()));
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
        error.to_string(),
        "cannot load train batch 1 of epoch 1 (batches count from 0)"
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the disk was removed"
    );

    let error = error_with(|batch| {
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

    let error = error_with(|batch| {
        Ok(Batch {
            targets: batch.targets.narrow(0, 0, 7)?,
            ..batch
        })
    });
    assert!(
        matches!(&error, Error::Shape { got, .. } if got == &[7]),
        "{error}"
    );

    let error = error_with(|batch| {
        Ok(Batch {
            targets: batch.targets.to_dtype(DType::I64)?,
            ..batch
        })
    });
    assert_eq!(
        error.to_string(),
        "the target tensor of the batch has dtype i64, expected u32"
    );

    let error = error_with(|batch| {
        Ok(Batch {
            inputs: batch.inputs.narrow(1, 0, 2)?,
            ..batch
        })
    });
    assert!(matches!(&error, Error::Candle { .. }), "{error}");
}

#[test]
fn invalid_arguments_are_errors_before_the_first_batch() {
    let params = mlp_params(1);
    let (train, val, no_samples) = (Points::train(16), Points::val(8), Points::val(0));
    let data = Data {
        train: &train,
        val: &val,
    };
    let run_error = |data: Data<'_>, config: &FitConfig, stage: &mut Stage| {
        run(&params, data, config, stage).map(|_| ()).unwrap_err()
    };
    let mut all_trainable = stage(&params, 0.1);
    let no_epochs = FitConfig {
        baseline: false,
        ..epochs(0)
    };
    assert!(matches!(
        run_error(data, &no_epochs, &mut all_trainable),
        Error::Setting { .. }
    ));
    let schedule = FitConfig {
        schedule: Schedule::StepLr {
            step: 0,
            gamma: 0.1,
        },
        ..epochs(1)
    };
    assert!(matches!(
        run_error(data, &schedule, &mut all_trainable),
        Error::Setting { .. }
    ));
    let empty = Data {
        val: &no_samples,
        ..data
    };
    assert!(matches!(
        run_error(empty, &epochs(1), &mut all_trainable),
        Error::EmptySplit { phase: Phase::Val }
    ));

    params.set_trainable(&["head"]).unwrap();
    let error = run_error(data, &epochs(1), &mut all_trainable);
    assert!(
        matches!(&error, Error::OptimizerMismatch { names } if names.len() == 4),
        "{error}"
    );
    assert_eq!(train.batches_loaded.get() + val.batches_loaded.get(), 0);
}
