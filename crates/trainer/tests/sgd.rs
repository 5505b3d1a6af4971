//! Tests of the optimizer: parameter groups, settings, and parameters without a gradient.
//! `golden.rs` tests the update rule.

mod common;

use candle_core::{Device, Tensor};
use common::{bits, mlp_params};
use trainer::{Error, Gradients, Group, Params, Sgd, SgdConfig};

/// Measures the learning rate of each parameter. Sets all parameters to 0, then takes one step
/// without momentum, in which all gradients are 1.
fn learning_rates(params: &Params, groups: Vec<Group>) -> Vec<(String, f32)> {
    let mut sgd = Sgd::new(params, SgdConfig::default(), groups).unwrap();
    let mut gradients = Vec::new();
    for (name, var) in params.trainable() {
        var.set(&var.zeros_like().unwrap()).unwrap();
        gradients.push((name, var.ones_like().unwrap().detach()));
    }
    sgd.step(Gradients::from_iter(gradients), 1.0).unwrap();
    let first = |tensor: Tensor| -tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
    params
        .trainable()
        .into_iter()
        .map(|(name, var)| (name, first(var.as_detached_tensor())))
        .collect()
}

fn new_error(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Error {
    Sgd::new(params, config, groups).map(|_| ()).unwrap_err()
}

#[test]
fn the_longest_pattern_wins() {
    let groups = vec![
        Group::everything(0.1),
        Group::new("body.1", 0.3),
        Group::new("body", 0.2),
        Group::new("body.1.bias", 0.4),
    ];
    let expected = [
        ("body.0.bias", 0.2),
        ("body.0.weight", 0.2),
        ("body.1.bias", 0.4),
        ("body.1.weight", 0.3),
        ("head.bias", 0.1),
        ("head.weight", 0.1),
    ];
    assert_eq!(
        learning_rates(&mlp_params(1), groups),
        expected.map(|(name, lr)| (name.to_owned(), lr))
    );
}

#[test]
fn invalid_groups_are_errors() {
    let params = mlp_params(1);
    let plain = SgdConfig::default();
    let group = |pattern: &str| Group::new(pattern, 0.1);

    let error = new_error(&params, plain, vec![group("body")]);
    assert!(
        matches!(&error, Error::Uncovered { names } if names == &["head.bias", "head.weight"]),
        "{error}"
    );
    let error = new_error(
        &params,
        plain,
        vec![group("body"), group("head"), group("heda")],
    );
    assert!(
        matches!(&error, Error::UnknownPattern { suggestion: Some(s), .. } if s == "head"),
        "{error}"
    );
    let error = new_error(
        &params,
        plain,
        vec![group("head"), group("body"), group("body")],
    );
    assert!(
        matches!(&error, Error::DuplicateGroup { pattern } if pattern == "body"),
        "{error}"
    );
    // All parameters of `body` belong to groups with longer patterns.
    let error = new_error(
        &params,
        plain,
        vec![
            group("head"),
            group("body"),
            group("body.0"),
            group("body.1"),
        ],
    );
    assert!(
        matches!(&error, Error::EmptyGroup { pattern, .. } if pattern == "body"),
        "{error}"
    );

    params.set_trainable(&["head"]).unwrap();
    let error = new_error(&params, plain, vec![group("head"), group("body")]);
    assert!(
        matches!(&error, Error::EmptyGroup { pattern, .. } if pattern == "body"),
        "{error}"
    );
    let help = error.help().unwrap();
    assert!(help.contains("(trainable: `head`)"), "{help}");
    params.set_trainable::<&str>(&[]).unwrap();
    assert!(matches!(
        new_error(&params, plain, vec![group("head")]),
        Error::NothingTrainable
    ));
}

#[test]
fn invalid_settings_are_errors() {
    let params = mlp_params(1);
    for lr in [f64::NAN, -0.1, f64::INFINITY] {
        let error = new_error(&params, SgdConfig::default(), vec![Group::everything(lr)]);
        assert!(matches!(error, Error::Setting { .. }), "{error}");
    }
    let plain = SgdConfig::default();
    for config in [
        SgdConfig {
            momentum: -0.9,
            ..plain
        },
        SgdConfig {
            dampening: f64::NAN,
            ..plain
        },
        SgdConfig {
            weight_decay: -1.0,
            ..plain
        },
        SgdConfig {
            nesterov: true,
            ..plain
        },
        SgdConfig {
            nesterov: true,
            momentum: 0.9,
            dampening: 0.1,
            ..plain
        },
    ] {
        let error = new_error(&params, config, vec![Group::everything(0.1)]);
        assert!(
            matches!(error, Error::Setting { .. }),
            "{config:?}: {error}"
        );
    }
}

#[test]
fn a_parameter_without_a_gradient_keeps_its_value_and_velocity() {
    let params = mlp_params(1);
    params.set_trainable(&["head.bias", "body.0.bias"]).unwrap();
    for (_, var) in params.trainable() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    let config = SgdConfig {
        momentum: 0.5,
        weight_decay: 0.1,
        ..SgdConfig::default()
    };
    let mut sgd = Sgd::new(&params, config, vec![Group::everything(1.0)]).unwrap();
    let ones = |name: &str, n: usize| {
        (
            name.to_owned(),
            Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap(),
        )
    };

    sgd.step(Gradients::from_iter([ones("head.bias", 2)]), 1.0)
        .unwrap();
    let after_first = bits(&params);
    assert_eq!(after_first["body.0.bias"], vec![0f32.to_bits(); 7]);
    sgd.step(Gradients::from_iter([ones("body.0.bias", 7)]), 1.0)
        .unwrap();
    assert_eq!(bits(&params)["head.bias"], after_first["head.bias"]);
    sgd.step(Gradients::from_iter([ones("head.bias", 2)]), 1.0)
        .unwrap();
    // v = 1, w = −1; then v = 0.5 + (1 − 0.1) = 1.4, w = −2.4.
    let head = params.tensors()["head.bias"].to_vec1::<f32>().unwrap();
    assert!(head.iter().all(|w| (w + 2.4).abs() < 1e-6), "{head:?}");
}
