//! VGG-16's backbone in candle's own operations, as a baseline for this project's kernels.

use anyhow::{Context as _, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use trainer::Gradients;
use vgg::VggConfig;
use vgg::config::Convolution;

use crate::row::{Output, Row, Run, backbone, params};

/// Prepares a run of `frozen forward` or `features step`.
///
/// Only the time is meaningful: candle 0.11's `max_pool2d` computes a wrong gradient.
pub fn prepare(row: &Row) -> Result<Run> {
    let backward = row.workload == "features step";
    let config = backbone();
    let params = params(&config, &row.device)?;
    params.set_trainable(if backward { &["features"][..] } else { &[] })?;
    let layers = layers_of(&config, params.var_builder())?;
    let (x, shape, parameters) = (row.images()?, row.features_shape(), params.trainable());
    Ok(Box::new(move || {
        let mut features = x.clone();
        for layer in &layers {
            let sum = features.conv2d(&layer.weight, 1, 1, 1, 1)?;
            features = sum
                .broadcast_add(&layer.bias.reshape((1, (), 1, 1))?)?
                .relu()?;
            if layer.pool {
                features = features.max_pool2d(2)?;
            }
        }
        if !backward {
            return Ok(Output(features, shape.clone()));
        }
        let gradients = Gradients::backward(features.sum_all()?, &parameters)?;
        let first = gradients
            .get("features.0.weight")
            .context("no gradient")?
            .to_dense()?;
        Ok(Output(first.clone(), vec![64, 3, 3, 3]))
    }))
}

struct Layer {
    weight: Tensor,
    bias: Tensor,
    pool: bool,
}

fn layers_of(config: &VggConfig, vb: VarBuilder<'_>) -> Result<Vec<Layer>> {
    let layer = |conv: Convolution| {
        let vb = vb.pp(format!("features.{}", conv.index));
        Ok(Layer {
            weight: vb.get((conv.output, conv.input, 3, 3), "weight")?,
            bias: vb.get(conv.output, "bias")?,
            pool: conv.pool,
        })
    };
    config.convolutions()?.into_iter().map(layer).collect()
}
