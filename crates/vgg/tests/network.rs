//! Tests of the whole network: comparison with candle-transformers, input sizes, dropout, NaN,
//! gradients, threads, and errors for invalid images.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{ModuleT, VarBuilder};
use candle_transformers::models::vgg as reference;
use vgg::{Mode, Precision, Vgg, VggConfig};

const CPU: Device = Device::Cpu;

fn image(side: usize, seed: usize) -> Tensor {
    let values =
        (0..3 * side * side).map(|index| ((index * 7919 + seed) % 1000) as f32 / 500.0 - 1.0);
    Tensor::from_vec(values.collect(), (1, 3, side, side), &CPU).expect("an image")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

fn narrow() -> (VggConfig, HashMap<String, Tensor>) {
    let config = VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 7, 64, 3);
    let tensors = vgg::init::from_scratch(&config, 5, &CPU).expect("a narrow network");
    (config, tensors.into_iter().collect())
}

fn build(config: &VggConfig, tensors: HashMap<String, Tensor>) -> Vgg {
    Vgg::new(config, VarBuilder::from_tensors(tensors, DType::F32, &CPU)).expect("a network")
}

/// candle-transformers' VGG-16 takes a single image and applies a ReLU to the logits. Its width is
/// fixed, so the test runs a VGG-16 of full width.
#[test]
fn logits_match_candle_transformers_after_a_relu() {
    let config = VggConfig::vgg16(1000);
    let tensors = vgg::init::from_scratch(&config, 5, &CPU).expect("a network");
    // A head drawn from N(0, 0.01²) gives logits near 0. Larger head weights make the comparison
    // sensitive.
    let tensors: HashMap<_, _> = tensors
        .into_iter()
        .map(|(name, tensor)| match name.as_str() {
            "classifier.6.weight" => (name, (tensor * 50.0).expect("scaled")),
            _ => (name, tensor),
        })
        .collect();
    let renamed = tensors.iter().map(|(name, tensor)| {
        // The reference expects the weights of the first two linear layers as convolution weights,
        // as timm stores them.
        let tensor = match name.as_str() {
            "classifier.0.weight" => tensor.reshape((4096, 512, 7, 7)),
            "classifier.3.weight" => tensor.reshape((4096, 4096, 1, 1)),
            _ => Ok(tensor.clone()),
        };
        (vgg::names::to_timm(name), tensor.expect("as a convolution"))
    });
    let vb = VarBuilder::from_tensors(renamed.collect(), DType::F32, &CPU);
    let network = reference::Vgg::new(vb, reference::Models::Vgg16).expect("the reference network");
    let x = image(224, 3);
    let expected = values(
        &network
            .forward_t(&x.squeeze(0).expect("one image"), false)
            .expect("the reference logits"),
    );
    let logits = build(&config, tensors)
        .forward(&x, Mode::Eval)
        .expect("logits");
    let clamped: Vec<f32> = values(&logits)
        .into_iter()
        .map(|logit| logit.max(0.0))
        .collect();
    let largest = expected.iter().copied().fold(0f32, f32::max);
    assert!(largest > 0.1, "all logits are near 0: {largest}");
    for (logit, expected) in clamped.iter().zip(&expected) {
        assert!(
            (logit - expected).abs() <= 1e-4 * largest,
            "{logit} {expected}"
        );
    }
}

#[test]
fn logits_do_not_depend_on_the_batch() {
    let (config, tensors) = narrow();
    let network = build(&config, tensors);
    let images: Vec<_> = (0..3).map(|seed| image(64, seed)).collect();
    let batch = Tensor::cat(&images, 0).expect("a batch");
    let batched = values(&network.forward(&batch, Mode::Eval).expect("forward"));
    let single = images
        .iter()
        .flat_map(|x| values(&network.forward(x, Mode::Eval).expect("forward")));
    for (batched, single) in batched.iter().zip(single) {
        assert!((batched - single).abs() < 1e-6);
    }
}

#[test]
fn images_smaller_than_the_smallest_input_are_errors() {
    let (config, tensors) = narrow();
    let network = build(&config, tensors);
    for side in [32, 33, 63, 97, 224] {
        let logits = network
            .forward(&image(side, 0), Mode::Eval)
            .expect("forward");
        assert_eq!(logits.dims(), [1, 3]);
    }
    let error = network
        .forward(&image(31, 0), Mode::Eval)
        .expect_err("too small");
    assert!(error.to_string().contains("at least 32x32"), "{error}");
}

#[test]
fn f32_after_bf16_computes_the_bits_of_f32() {
    let x = image(64, 0);
    for (config, tensors) in [narrow(), tracked()] {
        let network = build(&config, tensors);
        let logits = network.forward(&x, Mode::Eval).expect("logits");
        let network = network.with_precision(Precision::Bf16);
        network
            .forward(&x, Mode::Eval)
            .expect_err("a CPU has no bf16");
        let network = network.with_precision(Precision::F32);
        let again = network.forward(&x, Mode::Eval).expect("logits");
        assert_eq!(values(&again), values(&logits));
    }
}

#[test]
fn dropout_masks_depend_on_seed_and_step() {
    let (config, tensors) = narrow();
    let network = build(&config, tensors);
    let x = image(64, 0);
    let run = |seed, step| {
        let mode = Mode::Train { seed, step };
        values(&network.forward(&x, mode).expect("forward"))
    };
    assert_eq!(run(1, 1), run(1, 1));
    assert_ne!(run(1, 1), run(1, 2));
    assert_ne!(run(1, 1), run(2, 1));
    assert_ne!(
        run(1, 1),
        values(&network.forward(&x, Mode::Eval).expect("forward"))
    );
}

#[test]
fn nan_propagates_to_the_logits() {
    let (config, tensors) = narrow();
    let network = build(&config, tensors);
    let mut pixels = values(&image(64, 0));
    pixels[1234] = f32::NAN;
    let x = Tensor::from_vec(pixels, (1, 3, 64, 64), &CPU).expect("an image");
    let logits = values(&network.forward(&x, Mode::Eval).expect("forward"));
    assert!(logits.iter().all(|logit| logit.is_nan()), "{logits:?}");
}

#[test]
fn only_tracked_parameters_get_gradients() {
    let (config, mut tensors) = narrow();
    let head = Var::from_tensor(&tensors["classifier.6.weight"]).expect("a variable");
    tensors.insert("classifier.6.weight".into(), head.as_tensor().clone());
    let conv = tensors["features.28.weight"].clone();
    let network = build(&config, tensors);
    let logits = network.forward(&image(64, 0), Mode::Eval).expect("forward");
    let gradients = logits
        .sqr()
        .and_then(|l| l.sum_all())
        .and_then(|l| l.backward());
    let gradients = gradients.expect("backward");
    assert!(gradients.get(&head).is_some());
    assert!(gradients.get(&conv).is_none());
    let frozen = network
        .forward_layers(&image(64, 0), 0..15, Mode::Eval)
        .expect("features");
    assert!(!frozen.track_op(), "the frozen layers recorded a graph");
}

/// Returns the configuration and tensors of the narrow network, with all parameters tracked.
fn tracked() -> (VggConfig, HashMap<String, Tensor>) {
    let (config, tensors) = narrow();
    let track = |(name, tensor)| {
        let var = Var::from_tensor(&tensor).expect("a copy");
        (name, var.into_inner())
    };
    (config, tensors.into_iter().map(track).collect())
}

#[test]
fn grad_sink_gradients_equal_gradients_from_autograd() {
    let (config, tensors) = tracked();
    let mode = Mode::Train { seed: 1, step: 2 };
    let x = Tensor::cat(&[image(64, 1), image(64, 2)], 0).expect("two images");
    let plain = build(&config, tensors.clone());
    let logits = plain.forward(&x, mode).expect("logits");
    let store = logits.sqr().and_then(|l| l.backward()).expect("gradients");
    let with_sink = build(&config, tensors.clone()).with_grad_sink();
    let logits = with_sink.forward(&x, mode).expect("logits");
    let remaining = logits.sqr().and_then(|l| l.backward()).expect("gradients");
    for (name, parameter) in &tensors {
        let expected = store.get(parameter).expect("every parameter is tracked");
        assert!(remaining.get(parameter).is_none(), "{name}");
        let gradient = with_sink.take_gradient(parameter).expect(name);
        let gradient = gradient.to_dense().expect(name);
        assert_eq!(values(&gradient), values(expected), "{name}");
        assert!(values(expected).iter().any(|&g| g != 0.0), "{name}");
        assert!(with_sink.take_gradient(parameter).is_none(), "{name}");
        assert!(plain.take_gradient(parameter).is_none(), "{name}");
    }
}

#[test]
fn grad_sink_gradients_accumulate_over_backward_passes() {
    let (config, tensors) = tracked();
    let gradient = |seeds: &[usize], name: &str| {
        let network = build(&config, tensors.clone()).with_grad_sink();
        for &seed in seeds {
            let logits = network.forward(&image(64, seed), Mode::Eval);
            let loss = logits.and_then(|l| l.sqr()).expect("a loss");
            loss.backward().expect("gradients");
        }
        let gradient = network.take_gradient(&tensors[name]).expect(name);
        gradient.to_dense().expect(name)
    };
    for name in [
        "features.0.weight",
        "classifier.0.weight",
        "classifier.6.bias",
    ] {
        let sum = (gradient(&[1], name) + gradient(&[2], name)).expect("one shape");
        let difference = (gradient(&[1, 2], name) - sum)
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
            .expect("a number");
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn a_second_backward_pass_is_an_error() {
    let (config, tensors) = tracked();
    let logits = build(&config, tensors).forward(&image(64, 1), Mode::Eval);
    let loss = logits.and_then(|l| l.sum_all()).expect("a loss");
    loss.backward().expect("the first backward pass");
    let error = loss.backward().expect_err("the activations are freed");
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn threads_that_share_a_network_compute_the_same_bits_as_one_thread() {
    const fn shared<T: Send + Sync + Clone>() {}
    const { shared::<Vgg>() };
    let (config, tensors) = narrow();
    let network = Vgg::from_tensors(&config, tensors.clone(), &CPU).expect("a network");
    let expected: Vec<_> = (0..4)
        .map(|seed| {
            let logits = build(&config, tensors.clone()).forward(&image(64, seed), Mode::Eval);
            values(&logits.expect("logits"))
        })
        .collect();
    assert_ne!(expected[0], expected[1]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (seed, expected) in expected.iter().enumerate() {
                    let logits = network.forward(&image(64, seed), Mode::Eval);
                    assert_eq!(&values(&logits.expect("logits")), expected);
                }
            });
        }
    });
}

#[test]
fn the_error_for_a_wrong_dtype_or_rank_states_the_shape_and_dtype() {
    let (config, tensors) = narrow();
    let network = build(&config, tensors);
    let x = image(64, 1);
    let double = x.to_dtype(DType::F64).expect("f64");
    let single = x.squeeze(0).expect("(3, H, W)");
    for (x, got) in [
        (double, "got [1, 3, 64, 64] in f64"),
        (single, "got [3, 64, 64] in f32"),
    ] {
        let error = network.forward(&x, Mode::Eval).expect_err("wrong images");
        assert!(error.to_string().contains(got), "{error}");
    }
}
