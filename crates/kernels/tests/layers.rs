//! Tests the construction of layers, and compares layers without ReLU and separate max pools with
//! candle's operations.

mod naive;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use kernels::{ConvLayer, Error, GradSink, Isa, conv_stack, max_pool2d};
use naive::{random, relative_error};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const CPU: Device = Device::Cpu;

/// Maximum difference from candle's result, relative to the largest value of the tensor.
const TOLERANCE: f64 = 2e-5;

fn variable(seed: u64, shape: &[usize]) -> Var {
    let values = random(&mut ChaCha8Rng::seed_from_u64(seed), shape.iter().product());
    let tensor = Tensor::from_vec(values, shape, &CPU).expect("a tensor");
    Var::from_tensor(&tensor).expect("a variable")
}

fn assert_close(actual: &Tensor, expected: &Tensor, case: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{case}");
    let expected = expected
        .to_dtype(DType::F64)
        .and_then(|t| t.flatten_all()?.to_vec1());
    let error = relative_error(actual, &expected.expect("f64"));
    assert!(error < TOLERANCE, "{case}: error is {error:.1e}");
}

#[test]
fn tracked_weights_and_biases_must_be_contiguous() {
    let weight = variable(1, &[3, 2, 3, 3]);
    let bias = variable(2, &[3]);
    let transposed = weight.transpose(2, 3).expect("a view");
    let new = |weight: &Tensor, bias: &Tensor| ConvLayer::new(weight.clone(), bias.clone(), false);
    let error = new(&transposed, &bias).expect_err("a strided view of a variable");
    assert!(
        matches!(
            error,
            Error::NotContiguous {
                parameter: "weight"
            }
        ),
        "{error}"
    );
    let column = variable(3, &[3, 2])
        .narrow(1, 0, 1)
        .and_then(|b| b.squeeze(1));
    let error = new(&weight, &column.expect("a view")).expect_err("a column of a variable");
    assert!(
        matches!(error, Error::NotContiguous { parameter: "bias" }),
        "{error}"
    );
    // The conversion to candle's error keeps the message.
    let error = candle_core::Error::from(error).to_string();
    assert!(error.contains("the tracked bias"), "{error}");

    // An untracked view is copied.
    let frozen = new(&transposed.detach(), &bias.as_detached_tensor()).expect("a layer");
    let copied = new(
        &transposed.detach().contiguous().expect("a copy"),
        &bias.as_detached_tensor(),
    );
    let x = variable(4, &[1, 2, 5, 5]).as_detached_tensor();
    let run = |layer| {
        let y = conv_stack(&x, &[layer]).and_then(|y| y.flatten_all());
        y.and_then(|y| y.to_vec1::<f32>()).expect("forward")
    };
    assert_eq!(run(frozen), run(copied.expect("a layer")));
}

#[test]
fn a_layer_of_variables_sees_their_updates() {
    let weight = variable(1, &[3, 2, 3, 3]);
    let bias = variable(2, &[3]);
    let layer = |weight: &Var, bias: &Var| {
        ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), true)
    };
    let built_before = layer(&weight, &bias).expect("a layer");
    weight.set(&variable(5, &[3, 2, 3, 3])).expect("an update");
    bias.set(&variable(6, &[3])).expect("an update");
    let built_after = layer(&weight, &bias).expect("a layer");
    let x = variable(4, &[1, 2, 6, 6]);
    let run = |layer| {
        let y = conv_stack(&x, &[layer]).and_then(|y| y.flatten_all());
        y.and_then(|y| y.to_vec1::<f32>()).expect("forward")
    };
    assert_eq!(run(built_before), run(built_after));
}

#[test]
fn wrong_shapes_are_errors() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &CPU).expect("zeros");
    for (weight, bias) in [
        ([3, 2, 3, 3], [2]),
        ([3, 2, 5, 5], [3]),
        ([3, 0, 3, 3], [3]),
    ] {
        let error = ConvLayer::new(zeros(&weight), zeros(&bias), false);
        assert!(matches!(error, Err(Error::Shape { .. })), "{weight:?}");
    }
    assert!(max_pool2d(&zeros(&[1, 1, 1, 4])).is_err());
}

#[test]
fn layers_are_loaded_from_a_var_builder() {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &CPU);
    ConvLayer::load(2, 3, true, vb.pp("a")).expect("a layer");
    ConvLayer::load_no_bias(3, 4, false, vb.pp("b")).expect("a layer");
    let data = vars.data().lock().expect("no panic");
    let mut shapes: Vec<_> = data
        .iter()
        .map(|(name, var)| (name.as_str(), var.dims()))
        .collect();
    shapes.sort();
    let expected: [(&str, &[usize]); 3] = [
        ("a.bias", &[3]),
        ("a.weight", &[3, 2, 3, 3]),
        ("b.weight", &[4, 3, 3, 3]),
    ];
    assert_eq!(shapes, expected);
}

/// Compares y and the gradients of Σ y·g with those of candle's operations. candle's max pool gives
/// a unique maximum a quarter of its gradient, so all gradients of candle's pooled layers are
/// multiplied by 4.
#[test]
fn layers_without_relu_match_candle() {
    for isa in Isa::available() {
        for pool in [false, true] {
            let vars = [
                variable(1, &[2, 5, 10, 8]),
                variable(2, &[7, 5, 3, 3]),
                variable(3, &[7]),
            ];
            let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor().clone());
            let layer = ConvLayer::with_isa(weight.clone(), bias.clone(), pool, isa);
            let layer = layer.expect("a layer").without_relu();
            let candle = || -> Result<Tensor> {
                let bias = bias.reshape((1, (), 1, 1))?;
                let y = x.conv2d(&weight, 1, 1, 1, 1)?.broadcast_add(&bias)?;
                if pool { y.max_pool2d(2) } else { Ok(y) }
            };
            let (y, expected) = (conv_stack(&x, std::slice::from_ref(&layer)), candle());
            let (y, expected) = (y.expect("forward"), expected.expect("forward"));
            let case = format!("{isa:?} pool={pool}");
            assert_close(&y, &expected, &case);
            let on_device = kernels::device::conv_stack(&x, &[layer]).expect("forward");
            let g = variable(4, y.dims());
            let backward = |y: &Tensor| (y * g.as_tensor())?.sum_all()?.backward();
            let expected = backward(&expected).expect("backward");
            for y in [y, on_device] {
                let actual = backward(&y).expect("backward");
                for (index, var) in vars.iter().enumerate() {
                    let scale = if pool { 4.0 } else { 1.0 };
                    let expected = (expected.get(var).expect("a gradient") * scale).expect("f32");
                    let case = format!("{case} gradient {index}");
                    assert_close(actual.get(var).expect("a gradient"), &expected, &case);
                }
            }
        }
    }
}

#[test]
fn max_pool_has_four_times_the_gradient_of_candle() {
    let x = variable(1, &[2, 3, 8, 6]);
    let (y, expected) = (max_pool2d(&x), x.max_pool2d(2));
    let (y, expected) = (y.expect("forward"), expected.expect("forward"));
    assert_close(&y, &expected, "y");
    let g = variable(2, y.dims());
    let gradient = |y: &Tensor| {
        let store = (y * g.as_tensor())?.sum_all()?.backward()?;
        Ok::<_, candle_core::Error>(store.get(&x).expect("a gradient").clone())
    };
    let expected = gradient(&expected).and_then(|g| g * 4.0).expect("backward");
    assert_close(&gradient(&y).expect("backward"), &expected, "dx");
    assert!(
        !max_pool2d(&x.as_detached_tensor())
            .expect("forward")
            .track_op()
    );
}

#[test]
fn a_grad_sink_receives_the_gradients_of_a_layer() {
    let (weight, bias) = (variable(1, &[3, 2, 3, 3]), variable(2, &[3]));
    let layer = ConvLayer::new(weight.as_tensor().clone(), bias.as_tensor().clone(), true);
    let layer = layer.expect("a layer");
    let x = variable(4, &[2, 2, 6, 6]).as_detached_tensor();
    let backward = |layer: &ConvLayer| {
        let y = conv_stack(&x, std::slice::from_ref(layer)).and_then(|y| y.sqr()?.sum_all());
        y.and_then(|y| y.backward()).expect("backward")
    };
    let expected = backward(&layer);
    let sink = GradSink::default();
    let store = backward(&layer.with_grad_sink(&sink));
    for var in [&weight, &bias] {
        assert!(store.get(var).is_none());
        let gradient = sink.take(var).expect("a gradient").to_dense();
        let expected = expected.get(var).expect("a gradient");
        assert_close(&gradient.expect("dense"), expected, "gradient");
        assert!(sink.take(var).is_none(), "the gradient was taken twice");
    }
}

#[test]
fn the_selected_instruction_set_is_available() {
    let available = Isa::available();
    assert_eq!(available[0], Isa::Portable);
    let selected = Isa::selected().unwrap();
    assert!(available.contains(&selected));
    assert_eq!(Isa::selected().unwrap(), selected);
}
