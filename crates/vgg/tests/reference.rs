//! Compares the features of photographs, computed with ImageNet weights, with PyTorch's.
//!
//! The environment variable `WAGGLE_SHARED` is the path of the folder with the weights and
//! reference values. `cargo xtask reference PATH` sets it. Without it, the test is skipped.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use vgg::{Head, Vgg, VggConfig, kernels};

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("WAGGLE_SHARED").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: `WAGGLE_SHARED` is not set");
    }
    folder
}

fn relative_difference(a: &Tensor, b: &Tensor) -> f32 {
    let a: Vec<f32> = a.flatten_all().and_then(|a| a.to_vec1()).expect("f32");
    let b: Vec<f32> = b.flatten_all().and_then(|b| b.to_vec1()).expect("f32");
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f32, |max, b| max.max(b.abs()));
    let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    differences.fold(0f32, f32::max) / largest
}

#[test]
fn imagenet_features_of_photographs_match_pytorch() {
    let Some(shared) = shared() else { return };
    let device = Device::Cpu;
    let golden = shared.join("golden/photos/vgg16_features.safetensors");
    let golden = candle_core::safetensors::load(golden, &device).expect("reference values");
    let weights = shared.join("weights/vgg16_imagenet_features.safetensors");
    let config = VggConfig {
        // The test does not use the classifier. A small one saves half a gigabyte.
        hidden: 8,
        ..VggConfig::vgg16(2)
    };
    let loaded =
        vgg::load_pretrained(&weights, &config, Head::Replace, 1, &device).expect("weights");
    let layers = ["classifier.0", "classifier.3", "classifier.6"];
    assert_eq!(loaded.report.initialized_layers(), layers);

    let pixels = golden["pixels"].to_dtype(DType::F32).expect("pixels");
    let pixels = pixels
        .permute((0, 3, 1, 2))
        .and_then(|p| p / 255.0)
        .expect("planes");
    let channels = |values: [f32; 3]| Tensor::new(&values, &device)?.reshape((1, 3, 1, 1));
    let mean = channels([0.485, 0.456, 0.406]).expect("mean");
    let std = channels([0.229, 0.224, 0.225]).expect("std");
    let x = pixels
        .broadcast_sub(&mean)
        .and_then(|x| x.broadcast_div(&std))
        .and_then(|x| x.contiguous())
        .expect("normalized");

    let tensors = loaded.tensors.clone().into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &device);
    let network = Vgg::new(&config, vb).expect("the network");
    let difference = relative_difference(
        &network.features(&x).expect("features"),
        &golden["features"],
    );
    println!("features: relative difference {difference:.2e}");
    assert!(difference <= 1e-5, "features: {difference}");

    let mut stack = Vec::new();
    let mut end = 0;
    for conv in config.convolutions().expect("vgg16") {
        let weight = loaded.tensors[&format!("features.{}.weight", conv.index)].clone();
        let bias = loaded.tensors[&format!("features.{}.bias", conv.index)].clone();
        stack.push(kernels::ConvLayer::new(weight, bias, conv.pool).expect("a layer"));
        if conv.pool {
            end = conv.index + 2;
            let y = kernels::conv_stack(&x, &stack).expect("forward");
            let mean = y.mean((2, 3)).expect("means");
            let difference = relative_difference(
                &mean,
                &golden[&format!("block_after_{end}.mean_per_channel")],
            );
            assert!(
                difference <= 1e-5,
                "channel means after features.{end}: {difference}"
            );
        }
    }
    assert_eq!(end, 30);
}
