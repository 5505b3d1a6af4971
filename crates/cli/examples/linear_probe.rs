//! A linear probe: trains a linear classifier on the features of a frozen backbone.
//!
//! ```sh
//! cargo run --release -p cli --example linear_probe                  # the built-in sample
//! cargo run --release -p cli --example linear_probe -- DATA WEIGHTS
//! ```
//!
//! The backbone runs once per image, without augmentation.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::Module;
use dataset::{ImageFolder, Loader, LoaderConfig};
use trainer::{Gradients, Group, Params, Sgd, SgdConfig, cross_entropy};
use vgg::Features;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut arguments = std::env::args_os().skip(1);
    let data = match arguments.next() {
        Some(data) => data.into(),
        None => {
            sample::write(folder.path().join("sample")).map(|_| folder.path().join("sample"))?
        }
    };
    let built_in = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../data/sample_backbone.safetensors"
    );
    let backbone = Features::load(arguments.next().unwrap_or(built_in.into()), &Device::Cpu)?;
    let (train, val) = ImageFolder::train_and_val(data)?;
    let (x, y) = features(&backbone, &train)?;

    let params = Params::new(1234, &Device::Cpu);
    let probe = candle_nn::linear(x.dim(1)?, train.classes().len(), params.var_builder())?;
    let config = SgdConfig {
        momentum: 0.9,
        weight_decay: 1e-3,
        ..SgdConfig::default()
    };
    let mut sgd = Sgd::new(&params, config, vec![Group::everything(0.01)])?;
    let parameters = params.trainable();
    for _ in 0..200 {
        let loss = cross_entropy(&probe.forward(&x)?, &y)?;
        sgd.step(Gradients::backward(loss, &parameters)?, 1.0)?;
    }

    let (x, y) = features(&backbone, &val)?;
    let correct = probe.forward(&x)?.argmax(D::Minus1)?.eq(&y)?;
    let accuracy = correct
        .to_dtype(DType::F32)?
        .mean_all()?
        .to_scalar::<f32>()?;
    println!(
        "accuracy {:.1} % of {} val images",
        100.0 * accuracy,
        y.dim(0)?
    );
    let chance = 1.0 / train.classes().len() as f32;
    assert!(accuracy > chance, "the probe did not learn");
    Ok(())
}

/// Features (n, channels), averaged over all positions, and labels (n) of the images of a split.
fn features(backbone: &Features, split: &ImageFolder) -> anyhow::Result<(Tensor, Tensor)> {
    let size = backbone.config().input_size as u32;
    let loader = Loader::new(split.samples(), LoaderConfig::eval(size))?;
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for batch in loader.epoch(0) {
        let batch = batch?;
        features.push(backbone.forward(&batch.images)?.mean((2, 3))?);
        labels.push(batch.labels);
    }
    Ok((Tensor::cat(&features, 0)?, Tensor::cat(&labels, 0)?))
}
