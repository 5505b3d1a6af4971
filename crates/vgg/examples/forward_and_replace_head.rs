//! Classifies a synthetic image with a pretrained network, then replaces the head for two classes.
//!
//! `cargo run --release -p vgg --example forward_and_replace_head [WEIGHTS]`
//!
//! WEIGHTS is a safetensors file or a PyTorch state dict of VGG-16, with torchvision's or timm's
//! tensor names, with or without the classifier. By default, the example writes newly initialized
//! weights of a narrow network to the system's temporary directory, loads them, and removes them.

use std::path::{Path, PathBuf};

use vgg::candle_core::{D, Device, Tensor};
use vgg::candle_nn::ops::softmax;
use vgg::{Head, Metadata, Mode, Summary, Vgg, VggConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    if let Some(path) = std::env::args_os().nth(1) {
        return run(path.as_ref(), VggConfig::vgg16(1000), &device);
    }
    let (path, config) = narrow(&device)?;
    let result = run(&path, config, &device);
    std::fs::remove_file(path)?;
    result
}

fn run(path: &Path, config: VggConfig, device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", Summary::new(&config)?);

    // The pretrained network with all of its classes.
    let loaded = vgg::load_pretrained(path, &config, Head::Keep, 1234, device)?;
    println!(
        "{} tensors loaded, newly initialized: {:?}",
        loaded.report.loaded.len(),
        loaded.report.initialized_layers()
    );
    let network = Vgg::from_tensors(&config, loaded.tensors, device)?;
    let side = config.input_size;
    let ramp = Tensor::arange(0f32, (3 * side * side) as f32, device)?;
    let image = (ramp / (3 * side * side) as f64)?.reshape((1, 3, side, side))?;
    let logits = network.forward(&image, Mode::Eval)?;
    let probabilities = softmax(&logits, D::Minus1)?;
    let class = probabilities.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
    println!("{:?} logits, most likely class {class}", logits.dims());

    // A network with two classes needs a new head.
    let config = VggConfig {
        classes: 2,
        ..config
    };
    let loaded = vgg::load_pretrained(path, &config, Head::Replace, 1234, device)?;
    println!(
        "layers to train first: {:?}",
        loaded.report.initialized_layers()
    );
    let network = Vgg::from_tensors(&config, loaded.tensors, device)?;
    let logits = network.forward(&image, Mode::Eval)?;
    println!("{:?} logits: {:?}", logits.dims(), logits.to_vec2::<f32>()?);
    Ok(())
}

/// Writes the weights of a narrow network with ten classes.
fn narrow(device: &Device) -> Result<(PathBuf, VggConfig), vgg::Error> {
    let config = VggConfig::slim_vgg16([8, 8, 16, 16, 16], 32, 7, 64, 10);
    let name = format!("vgg_example_{}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    let metadata = Metadata {
        config: config.clone(),
        classes: (0..10).map(|class| format!("class {class}")).collect(),
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        temperature: 1.0,
    };
    let tensors = vgg::init::from_scratch(&config, 1234, device)?;
    vgg::save(&path, &tensors, &metadata)?;
    Ok((path, config))
}
