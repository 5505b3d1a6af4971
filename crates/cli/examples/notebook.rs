//! The PyTorch transfer-learning notebook, cell by cell, with this project's crates.
//!
//! ```text
//! cargo run --release -p cli --example notebook     # the built-in sample and backbone
//! cargo run --release -p cli --example notebook -- DATA WEIGHTS
//! ```
//!
//! `docs/notebook.md` puts each cell next to the command that does the same.

use candle_core::Device;
use dataset::{ImageFolder, Loader, LoaderConfig, Normalize};
use trainer::{Data, Event, FitConfig, Flow, Group, Params, SgdConfig, Stage};
use vgg::{Head, Metadata, Vgg, VggConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cell 1: settings.
    let out = tempfile::tempdir()?;
    let mut arguments = std::env::args().skip(1);
    let data = match arguments.next() {
        Some(data) => data.into(),
        None => sample::write(out.path().join("sample")).map(|_| out.path().join("sample"))?,
    };
    let backbone = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../data/sample_backbone.safetensors"
    );
    let weights = arguments.next().unwrap_or(backbone.to_string());
    let device = Device::Cpu;
    let sgd = SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let fit = FitConfig {
        epochs: 9,
        ..FitConfig::default()
    }; // after the baseline; 24 in the notebook

    // Cell 2: the data, with torchvision's transforms.
    let (train, val) = ImageFolder::train_and_val(&data)?;
    let classes = train.classes().to_vec();
    let metadata = vgg::read_metadata(&weights)?;
    let config = metadata.map_or_else(|| VggConfig::vgg16(1000), |metadata| metadata.config);
    let train = Loader::new(
        train.samples(),
        LoaderConfig::train(config.input_size as u32),
    )?;
    let val = Loader::new(val.samples(), LoaderConfig::eval(config.input_size as u32))?;

    // Cell 3: a grid of a training batch.
    let batch = train.epoch(0).next().ok_or("no training images")??;
    let grid = cli::plots::batch::draw(&batch, &classes, Normalize::IMAGENET)?;
    std::fs::write(out.path().join("train_batch.png"), grid)?;

    // Cell 4: the pretrained network, with a new `classifier.6`.
    let config = VggConfig {
        classes: classes.len(),
        ..config
    };
    let loaded = vgg::load_pretrained(&weights, &config, Head::Replace, 1234, &device)?;
    let params = Params::from_tensors(loaded.tensors, &device)?;
    let build = |vb| Vgg::new(&config, vb).map(Vgg::with_grad_sink);
    let data = Data {
        train: &train,
        val: &val,
    };

    // Cell 5: transfer. Only `classifier.6` trains.
    params.set_trainable(&["classifier.6"])?;
    let mut stage = Stage::new(&params, sgd, vec![Group::new("classifier.6", 1e-3)])?;
    trainer::fit(&params, build, data, &fit, &mut stage, &mut print)?;

    // Cell 6: fine-tuning. All layers train, with lower learning rates toward the input.
    let groups = [
        ("features", 1e-4),
        ("classifier.0", 5e-4),
        ("classifier.3", 5e-4),
        ("classifier.6", 1e-3),
    ];
    params.set_trainable(&groups.map(|(layers, _)| layers))?;
    let groups = groups.map(|(layers, lr)| Group::new(layers, lr)).to_vec();
    let mut stage = Stage::new(&params, sgd, groups)?;
    trainer::fit(&params, build, data, &fit, &mut stage, &mut print)?;

    // Cell 7: save the model and load it.
    let path = out.path().join("model.safetensors");
    let Normalize { mean, std } = Normalize::IMAGENET;
    let metadata = Metadata {
        config: config.clone(),
        classes,
        mean,
        std,
        temperature: 1.0,
    };
    vgg::save(&path, &params.tensors(), &metadata)?;
    let model = vgg::load_model(&path, &device)?;
    println!(
        "{} tensors, classes {:?}",
        model.tensors.len(),
        model.metadata.classes
    );
    Ok(())
}

/// Prints the loss and accuracy of each phase, and the best val accuracy of each stage.
fn print(event: &Event, _: &Stage) -> Flow {
    match event {
        Event::PhaseEnd {
            phase,
            epoch,
            loss,
            accuracy,
            ..
        } => {
            println!("epoch {epoch:>2} {phase:?} Loss: {loss:.4} Acc: {accuracy:.4}");
        }
        Event::StageEnd { accuracy, .. } => println!("Best val Acc: {accuracy:.4}\n"),
        _ => {}
    }
    Flow::Continue
}
