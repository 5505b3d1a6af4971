//! Tests of `Params`: initialization, layer patterns, freezing, best weights, snapshots, and the
//! tensors returned by a `VarBuilder`.

mod common;

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use candle_nn::Init;
use common::{Builder, bits, mlp_params};
use trainer::{Counts, Error, Params, Sgd, SgdConfig};

fn named(names: &[&str]) -> Params {
    let tensor = || Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let tensors = names
        .iter()
        .map(|name| (name.to_string(), tensor()))
        .collect();
    Params::from_tensors(tensors, &Device::Cpu).unwrap()
}

fn trainable(params: &Params) -> Vec<String> {
    params
        .trainable()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

fn address(tensor: &Tensor) -> *const f32 {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr(),
        _ => panic!("the tensor is not f32 on the CPU"),
    }
}

#[test]
fn initial_values_do_not_depend_on_other_parameters_or_request_order() {
    let hint = Init::Randn {
        mean: 0.0,
        stdev: 1.0,
    };
    let (a, b) = (Params::new(7, &Device::Cpu), Params::new(7, &Device::Cpu));
    for name in ["x", "y"] {
        a.var_builder().get_with_hints(3, name, hint).unwrap();
    }
    for name in ["other", "y", "x"] {
        b.frozen_var_builder()
            .get_with_hints(3, name, hint)
            .unwrap();
    }
    let (a, b) = (bits(&a), bits(&b));
    assert_eq!((&a["x"], &a["y"]), (&b["x"], &b["y"]));
    assert_ne!(a["x"], a["y"]);
    assert_ne!(bits(&mlp_params(1)), bits(&mlp_params(2)));
}

#[test]
fn patterns_are_layer_prefixes() {
    let params = named(&[
        "classifier.6.bias",
        "classifier.6.weight",
        "classifier.60.weight",
        "features.0.weight",
    ]);
    params.set_trainable(&["classifier.6"]).unwrap();
    assert_eq!(
        trainable(&params),
        ["classifier.6.bias", "classifier.6.weight"]
    );
    assert_eq!(
        params.counts(),
        Counts {
            trainable: 4,
            frozen: 4
        }
    );
    params
        .set_trainable(&["features", "classifier.60.weight"])
        .unwrap();
    assert_eq!(
        trainable(&params),
        ["classifier.60.weight", "features.0.weight"]
    );
}

#[test]
fn an_unknown_pattern_is_an_error_with_a_suggestion() {
    let params = named(&["classifier.6.weight", "features.0.weight"]);
    params.set_trainable(&["features"]).unwrap();
    let error = params
        .set_trainable(&["classifier", "feature"])
        .unwrap_err();
    assert_eq!(trainable(&params), ["features.0.weight"]);
    assert_eq!(
        error.to_string(),
        "no parameter matches the layer pattern `feature`"
    );
    assert_eq!(error.help().unwrap(), "did you mean `features`?");
    let error = params.set_trainable(&["backbone"]).unwrap_err();
    assert_eq!(
        error.help().unwrap(),
        "the layers are `classifier.6`, `features.0`"
    );
}

#[test]
fn selecting_or_optimizing_parameters_before_a_model_is_built_is_an_error() {
    let params = Params::new(1, &Device::Cpu);
    for error in [
        params.set_trainable(&["head"]).unwrap_err(),
        Sgd::new(&params, SgdConfig::default(), vec![]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NoParameters), "{error}");
    }
}

#[test]
fn only_trainable_parameters_are_tracked() {
    let params = mlp_params(1);
    params.set_trainable(&["head"]).unwrap();
    let (tracked, detached) = (params.var_builder(), params.frozen_var_builder());
    assert!(tracked.get((2, 7), "head.weight").unwrap().is_variable());
    assert!(!tracked.get((7, 3), "body.0.weight").unwrap().track_op());
    assert!(!detached.get((2, 7), "head.weight").unwrap().track_op());
}

#[test]
fn a_detached_tensor_reflects_updates() {
    let params = mlp_params(1);
    let view = params.frozen_var_builder().get(2, "head.bias").unwrap();
    let (_, var) = params
        .trainable()
        .into_iter()
        .find(|(name, _)| name == "head.bias")
        .unwrap();
    var.set(&Tensor::new(&[5f32, 6.], &Device::Cpu).unwrap())
        .unwrap();
    assert_eq!(view.to_vec1::<f32>().unwrap(), [5.0, 6.0]);
}

#[test]
fn frozen_tensors_are_not_copied() {
    let tensor = Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap();
    let params = Params::from_tensors(
        BTreeMap::from([("w".to_owned(), tensor.clone())]),
        &Device::Cpu,
    )
    .unwrap();
    assert_eq!(address(&params.tensors()["w"]), address(&tensor));

    // Training must not write to the caller's tensor.
    params.set_trainable(&["w"]).unwrap();
    params.trainable()[0]
        .1
        .set(&Tensor::new(&[3f32, 4.], &Device::Cpu).unwrap())
        .unwrap();
    assert_eq!(tensor.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(params.tensors()["w"].to_vec1::<f32>().unwrap(), [3.0, 4.0]);

    // Freezing keeps the trained values.
    params.set_trainable::<&str>(&[]).unwrap();
    assert_eq!(params.tensors()["w"].to_vec1::<f32>().unwrap(), [3.0, 4.0]);
}

#[test]
fn best_weights_are_copies_of_the_trainable_parameters() {
    let params = mlp_params(1);
    params.set_trainable(&["head"]).unwrap();
    let before = bits(&params);
    let best = params.copy_trainable().unwrap();
    assert_eq!(
        best.tensors().keys().collect::<Vec<_>>(),
        ["head.bias", "head.weight"]
    );
    for (_, var) in params.trainable() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    assert_ne!(bits(&params), before);
    params.restore(&best).unwrap();
    assert_eq!(bits(&params), before);

    let help = |names: &[&str]| {
        let error = named(names).restore(&best).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no trainable parameter `head.bias`"
        );
        error.help()
    };
    let typo = help(&["head.bais"]).unwrap();
    assert_eq!(typo, "did you mean `head.bais`?");
    // This parameter exists, but is frozen.
    assert_eq!(help(&["head.bias"]), None);
}

#[test]
fn a_snapshot_keeps_its_values_when_best_weights_are_restored() {
    let params = mlp_params(1);
    params.set_trainable(&["head"]).unwrap();
    let best = params.copy_trainable().unwrap();
    for (_, var) in params.trainable() {
        var.set(&var.ones_like().unwrap()).unwrap();
    }
    let snapshot = params.snapshot(|name| name == "head.bias").unwrap();
    assert_eq!(snapshot.keys().collect::<Vec<_>>(), ["head.bias"]);
    params.restore(&best).unwrap();
    let values = snapshot["head.bias"].to_tensor().unwrap();
    let values = values.to_vec1::<f32>().unwrap();
    assert_eq!(values, [1.0, 1.0]);
    let bias = params.tensors()["head.bias"].to_vec1::<f32>().unwrap();
    assert_ne!(bias, values);
}

#[test]
fn missing_and_mismatched_parameters_are_errors() {
    let params = named(&["body.0.weigth", "head.weight"]);
    let build = |params: &Params| Builder::default().build(params.var_builder()).map(|_| ());
    let error = build(&params).unwrap_err().to_string();
    assert!(
        error.contains("`body.0.weight`") && error.contains("did you mean `body.0.weigth`?"),
        "{error}"
    );

    let vb = params.var_builder();
    let error = vb.get((3, 3), "head.weight").unwrap_err().to_string();
    assert!(
        error.contains("has shape [2], but the model requests [3, 3]"),
        "{error}"
    );
    let error = vb
        .set_dtype(DType::F64)
        .get(2, "head.weight")
        .unwrap_err()
        .to_string();
    assert!(error.contains("F32") && error.contains("F64"), "{error}");
}

#[test]
fn missing_parameters_are_initialized_and_trainable() {
    let body: BTreeMap<_, _> = mlp_params(1)
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with("body"))
        .collect();
    let params = Params::from_tensors(body, &Device::Cpu)
        .unwrap()
        .create_missing(9);
    Builder::default().build(params.var_builder()).unwrap();
    assert_eq!(trainable(&params), ["head.bias", "head.weight"]);
    assert_eq!(
        bits(&params)["head.weight"],
        bits(&mlp_params(9))["head.weight"]
    );
    assert_eq!(
        bits(&params)["body.0.weight"],
        bits(&mlp_params(1))["body.0.weight"]
    );
}

#[test]
fn buffers_are_neither_trainable_nor_counted() {
    let params = named(&["norm.weight", "norm.running_mean"]);
    let params = params.with_buffers(|name| name.ends_with("running_mean"));
    params.set_trainable(&["norm"]).unwrap();
    assert_eq!(trainable(&params), ["norm.weight"]);
    let counts = Counts {
        trainable: 2,
        frozen: 0,
    };
    assert_eq!(params.counts(), counts);
    assert_eq!(params.tensors().len(), 2);
}
