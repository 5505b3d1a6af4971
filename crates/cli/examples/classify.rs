//! Classifies two images of the built-in sample in two threads that share one classifier with random
//! weights.

use std::sync::Arc;
use std::thread;

use candle_core::Device;
use cli::Classifier;
use dataset::{DecodeOptions, Normalize};
use vgg::{Metadata, VggConfig};

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, model) = (folder.path().join("data"), folder.path().join("model"));
    sample::write(&data)?;
    let config = VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 2);
    let tensors = vgg::init::from_scratch(&config, 1234, &Device::Cpu)?;
    let classes = ["ants", "bees"].map(String::from).to_vec();
    let Normalize { mean, std } = Normalize::IMAGENET;
    vgg::save(
        &model,
        &tensors,
        &Metadata {
            config,
            classes,
            mean,
            std,
        },
    )?;
    let classifier = Arc::new(Classifier::open(&model, &Device::Cpu)?);
    classifier.warm_up()?;
    let threads = ["ants", "bees"].map(|class| {
        let classifier = Arc::clone(&classifier);
        let path = data.join("val").join(class).join("000.png");
        thread::spawn(move || classifier.classify_path(&path, &DecodeOptions::default()))
    });
    for thread in threads {
        let probabilities = thread.join().expect("the thread does not panic")?;
        println!("{:?} {probabilities:?}", classifier.classes());
    }
    Ok(())
}
