//! Benchmark rows that run this project's crates, through their public API.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{Device, Tensor};
use dataset::{ImageFolder, Loader, LoaderConfig, Sample};
use trainer::{
    Data, Event, FitConfig, Flow, Gradients, Group, Mode, Model, Params, Sgd, SgdConfig, Stage,
};
use vgg::{Vgg, VggConfig};

use crate::row::{BATCH, Output, Row, Run, SEED, backbone, params};

/// Number of ImageNet classes. With it, VGG-16 has 138 million parameters.
const CLASSES: usize = 1000;
/// Number of classes in the photograph data set: ants and bees.
const PHOTOGRAPHS_CLASSES: usize = 2;

/// Prepares the workload of `row`. `data` is the folder of images for the rows that read them.
pub fn prepare(row: &Row, data: Option<&Path>) -> Result<Run> {
    let data = || data.context("this row needs a folder of images, DATA");
    match row.workload.as_str() {
        "frozen forward" => frozen_forward(row),
        "predict forward" => predict_forward(row),
        "features step" => features_step(row),
        "stage-1 step" => step(row, 1),
        "stage-2 step" => step(row, 2),
        "loader train uncached" => loader(data()?, 0),
        "loader train cached" => loader(data()?, 1 << 30),
        "stage-1 epochs" => epochs(data()?, &[1]),
        "two-stage recipe" => epochs(data()?, &[1, 2]),
        other => bail!("unknown row `{other}`"),
    }
}

fn frozen_forward(row: &Row) -> Result<Run> {
    let config = backbone();
    let network = Vgg::new(&config, params(&config, &row.device)?.frozen_var_builder())?;
    let (x, shape) = (row.images()?, row.features_shape());
    Ok(Box::new(move || {
        Ok(Output(network.features(&x)?, shape.clone()))
    }))
}

fn predict_forward(row: &Row) -> Result<Run> {
    let config = VggConfig::vgg16(CLASSES);
    let network = Vgg::new(&config, params(&config, &row.device)?.frozen_var_builder())?;
    let (x, batch) = (row.images()?, row.batch);
    Ok(Box::new(move || {
        let logits = network.forward(&x, vgg::Mode::Eval)?;
        Ok(Output(logits, vec![batch, CLASSES]))
    }))
}

/// A forward and a backward pass through the backbone of thirteen convolutions. The backward pass
/// computes the gradients of all weights and biases.
fn features_step(row: &Row) -> Result<Run> {
    let config = backbone();
    let params = params(&config, &row.device)?;
    params.set_trainable(&["features"])?;
    let network = Vgg::new(&config, params.var_builder())?.with_grad_sink();
    let (x, parameters) = (row.images()?, params.trainable());
    Ok(Box::new(move || {
        let sum = network.features(&x)?.sum_all()?;
        let take = |parameter: &_| Model::take_gradient(&network, parameter);
        let gradients = Gradients::backward_with(sum, &parameters, take)?;
        gradients.check_complete(&parameters)?;
        let first = gradients.get("features.0.weight").context("no gradient")?;
        Ok(Output(first.to_dense()?, vec![64, 3, 3, 3]))
    }))
}

/// The trainable layers of stage 1 or 2, with the learning rates of the recipe.
fn groups(stage: usize) -> Vec<Group> {
    let mut groups = vec![Group::new("classifier.6", 1e-3)];
    if stage == 2 {
        groups.push(Group::new("features", 1e-4));
        groups.push(Group::new("classifier.0", 5e-4));
        groups.push(Group::new("classifier.3", 5e-4));
    }
    groups
}

const SGD: SgdConfig = SgdConfig {
    momentum: 0.9,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
};

fn set_trainable(params: &Params, groups: &[Group]) -> Result<()> {
    let layers: Vec<&str> = groups.iter().map(|group| group.pattern.as_str()).collect();
    Ok(params.set_trainable(&layers)?)
}

/// A training step as in `trainer::fit`: forward with dropout, loss, backward, SGD with momentum.
fn step(row: &Row, stage: usize) -> Result<Run> {
    let config = VggConfig::vgg16(CLASSES);
    let (params, groups) = (params(&config, &row.device)?, groups(stage));
    set_trainable(&params, &groups)?;
    let mut sgd = Sgd::new(&params, SGD, groups)?;
    let network = Vgg::new(&config, params.var_builder())?
        .with_grad_sink()
        .with_precision(row.precision);
    let parameters = params.trainable();
    let first_trainable = trainer::first_trainable_layer(&params, network.layer_names())?;
    let layers = network.layer_names().len();

    let x = row.images()?;
    let labels: Vec<u32> = (0..CLASSES as u32).cycle().take(row.batch).collect();
    let y = Tensor::from_vec(labels, row.batch, &row.device)?;
    let (device, mut step) = (row.device.clone(), 0);
    Ok(Box::new(move || {
        let mode = Mode::Train { seed: SEED, step };
        step += 1;
        let features = Model::forward_layers(&network, &x, 0..first_trainable, mode)?.detach();
        let logits = Model::forward_layers(&network, &features, first_trainable..layers, mode)?;
        let loss = trainer::cross_entropy(&logits, &y)?;
        let value = loss.to_scalar::<f32>()?;
        // As in `trainer::fit`: the graph keeps the tensors that the backward pass needs. Dropping
        // these handles lets the backward pass free each tensor as early as possible.
        drop((features, logits));
        let take = |parameter: &_| Model::take_gradient(&network, parameter);
        let gradients = Gradients::backward_with(loss, &parameters, take)?;
        sgd.step(gradients, 1.0)?;
        // Wait for the GPU, which runs asynchronously.
        device.synchronize()?;
        Ok(Output(Tensor::new(&[value], &Device::Cpu)?, vec![1]))
    }))
}

/// Loads one epoch of training images on this thread, without workers, to measure the throughput of
/// one core.
fn loader(data: &Path, cache_bytes: usize) -> Result<Run> {
    let (train, _) = ImageFolder::train_and_val(data)?;
    let config = LoaderConfig::train(224).workers(0).cache_bytes(cache_bytes);
    let loader = Loader::new(train.samples(), config)?;
    let mut epoch = 0;
    Ok(Box::new(move || {
        let (mut loaded, mut last) = (0, None);
        for batch in loader.epoch(epoch) {
            let batch = batch?;
            loaded += batch.indices.len();
            last = Some(batch.images);
        }
        epoch += 1;
        let images = loader.samples().len();
        ensure!(loaded == images, "loaded {loaded} of {images} images");
        let last = last.context("the folder has no images")?;
        let shape = vec![(images - 1) % BATCH + 1, 3, 224, 224];
        Ok(Output(last, shape))
    }))
}

/// Training as in `waggle train`, with three epochs per stage, including the baseline. All images are
/// decoded before the first stage, into a cache of at most 1 GiB. Loading uses four workers. Within a
/// stage, validation computes the leading frozen layers once.
fn epochs(data: &Path, stages: &'static [usize]) -> Result<Run> {
    let config = VggConfig::vgg16(PHOTOGRAPHS_CLASSES);
    let params = params(&config, &Device::Cpu)?;
    let data = data.to_path_buf();
    Ok(Box::new(move || {
        let (train, val) = ImageFolder::train_and_val(&data)?;
        let images = train.len() + val.len();
        let open = |samples: &[Sample], config: LoaderConfig| -> Result<Loader> {
            let cache_bytes = (1usize << 30) / images * samples.len();
            let loader = Loader::new(samples, config.cache_bytes(cache_bytes))?;
            loader.preload()?;
            Ok(loader)
        };
        let train = open(train.samples(), LoaderConfig::train(224))?;
        let val = open(val.samples(), LoaderConfig::eval(224))?;
        let mut losses = Vec::new();
        for &stage in stages {
            let groups = groups(stage);
            set_trainable(&params, &groups)?;
            let mut state = Stage::new(&params, SGD, groups)?;
            let fit = FitConfig {
                epochs: 2,
                ..FitConfig::default()
            };
            trainer::fit(
                &params,
                |vb| Vgg::new(&config, vb).map(Vgg::with_grad_sink),
                Data {
                    train: &train,
                    val: &val,
                },
                &fit,
                &mut state,
                &mut |event, _| {
                    if let Event::PhaseEnd { loss, .. } = event {
                        losses.push(*loss);
                    }
                    Flow::Continue
                },
            )?;
        }
        // Per stage: the baseline validation, then two epochs, each with a training and a
        // validation phase.
        let phases = 5 * stages.len();
        let losses = Tensor::new(losses.as_slice(), &Device::Cpu)?;
        Ok(Output(losses, vec![phases]))
    }))
}
