//! Heat maps: layers, classes, resolutions and errors. `golden.rs` compares values with
//! pytorch-grad-cam.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarMap;
use vgg::{Error, HeatMapMethod, Mode, Vgg, VggConfig};

const CPU: Device = Device::Cpu;

fn config(batch_norm: bool) -> VggConfig {
    VggConfig {
        batch_norm,
        ..VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 3)
    }
}

fn network(config: &VggConfig) -> Vgg {
    let tensors = vgg::init::from_scratch(config, 1234, &CPU).expect("weights");
    Vgg::from_tensors(config, tensors, &CPU).expect("a network")
}

fn image(images: usize) -> Tensor {
    let values = (0..images * 3 * 64 * 64).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0);
    Tensor::from_vec(values.collect(), (images, 3, 64, 64), &CPU).expect("an image")
}

fn methods() -> [HeatMapMethod; 3] {
    HeatMapMethod::NAMES.map(|name| name.parse().expect(name))
}

#[test]
fn the_relus_and_pools_of_the_backbone_have_heat_maps() {
    let layers = |name: &str| {
        let config = VggConfig::named(name, 2).expect(name);
        config.heat_map_layers().expect(name)
    };
    let vgg16 = layers("vgg16");
    assert_eq!(vgg16.len(), 13 + 5);
    assert_eq!(vgg16[..3], ["features.1", "features.3", "features.4"]);
    assert_eq!(vgg16[16..], ["features.29", "features.30"]);
    let vgg16_bn = layers("vgg16_bn");
    assert_eq!(vgg16_bn[..2], ["features.2", "features.5"]);
    assert_eq!(vgg16_bn[16..], ["features.42", "features.43"]);
    let last_relu = |name: &str| VggConfig::named(name, 2).and_then(|config| config.last_relu());
    assert_eq!(last_relu("vgg16").expect("vgg16"), "features.29");
    assert_eq!(last_relu("vgg16_bn").expect("vgg16_bn"), "features.42");
}

#[test]
fn every_layer_has_a_map_of_its_resolution_with_values_from_0_to_1() {
    for batch_norm in [false, true] {
        let config = config(batch_norm);
        let network = network(&config);
        let mut side = 64;
        let convolutions = config.convolutions().expect("a valid configuration");
        let pools = convolutions.iter().flat_map(|conv| {
            let relu = std::iter::once(false);
            relu.chain(conv.pool.then_some(true))
        });
        let layers = config.heat_map_layers().expect("layers");
        for (layer, is_pool) in layers.iter().zip(pools) {
            side /= if is_pool { 2 } else { 1 };
            for method in methods() {
                let map = network
                    .heat_map(&image(1), Some(1), layer, method)
                    .expect("a heat map");
                assert_eq!(
                    (map.width, map.height, map.class),
                    (side, side, 1),
                    "{layer}"
                );
                assert_eq!(map.raw.len(), side * side);
                assert!(map.raw.iter().all(|value| *value >= 0.0), "{layer}");
                let resized = map.resized(50, 70);
                assert_eq!(resized.len(), 50 * 70);
                assert!(resized.iter().all(|value| (0.0..=1.0).contains(value)));
            }
        }
    }
}

#[test]
fn without_a_class_the_map_is_that_of_the_predicted_class() {
    let network = network(&config(false));
    let logits = network.forward(&image(1), Mode::Eval).expect("logits");
    let predicted = logits
        .argmax(D::Minus1)
        .and_then(|class| class.to_vec1::<u32>())
        .expect("a class")[0] as usize;
    let map = |class| {
        network
            .heat_map(&image(1), class, "features.22", HeatMapMethod::LayerCam)
            .expect("a heat map")
    };
    assert_eq!(map(None), map(Some(predicted)));
    assert_eq!(
        vec![map(None).logits],
        logits.to_vec2::<f32>().expect("f32")
    );
    assert_ne!(map(Some((predicted + 1) % 3)).raw, map(None).raw);
}

/// The same map results from weights that are variables, as during training.
#[test]
fn a_network_of_variables_has_the_same_maps() {
    let config = config(false);
    let tensors = vgg::init::from_scratch(&config, 1234, &CPU).expect("weights");
    let vars = VarMap::new();
    let builder = candle_nn::VarBuilder::from_varmap(&vars, DType::F32, &CPU);
    let trainable = Vgg::new(&config, builder).expect("a network");
    for (name, var) in vars.data().lock().expect("the variables").iter() {
        var.set(&tensors[name]).expect("the same shape");
    }
    for method in methods() {
        let map = |network: &Vgg| {
            network
                .heat_map(&image(1), Some(2), "features.20", method)
                .expect("a heat map")
        };
        assert_eq!(map(&trainable), map(&network(&config)));
    }
}

#[test]
fn other_layers_classes_and_batches_are_errors() {
    let network = network(&config(false));
    let method = HeatMapMethod::GradCam;
    for layer in ["features.28", "classifier.6", "features.31", "", "features"] {
        let error = network
            .heat_map(&image(1), None, layer, method)
            .expect_err(layer);
        assert!(matches!(error, Error::HeatMapLayer { .. }), "{error}");
        let help = error.help().expect("the names of the layers");
        assert!(help.ends_with("features.29, features.30"), "{help}");
    }
    let map = |image: &Tensor, class| network.heat_map(image, class, "features.30", method);
    let error = map(&image(1), Some(3)).expect_err("a class out of range");
    let message = error.to_string();
    assert!(message.starts_with("there is no class 3: "), "{message}");
    let error = map(&image(2), None).expect_err("two images");
    assert!(matches!(error, Error::ImageCount { images: 2 }), "{error}");
    let small = Tensor::zeros((1, 3, 16, 16), DType::F32, &CPU).expect("an image");
    map(&small, None).expect_err("an image that is too small");
}

#[test]
fn a_network_with_infinite_results_is_an_error_and_not_a_map_of_nan() {
    let config = config(false);
    let mut tensors = vgg::init::from_scratch(&config, 1234, &CPU).expect("weights");
    let head = &tensors["classifier.6.weight"];
    let infinite = Tensor::full(f32::MAX, head.shape(), &CPU).expect("weights");
    tensors.insert("classifier.6.weight".into(), infinite);
    let bias = Tensor::full(f32::MAX, 3, &CPU).expect("a bias");
    tensors.insert("classifier.6.bias".into(), bias);
    let network = Vgg::from_tensors(&config, tensors, &CPU).expect("a network");
    for method in methods() {
        let error = network
            .heat_map(&image(1), None, "features.30", method)
            .expect_err("infinite results");
        assert!(matches!(error, Error::NonFiniteResult { .. }), "{error}");
    }
}
