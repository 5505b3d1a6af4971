//! A model that is not a sequence of layers, and another loss: a residual network, trained with
//! label smoothing.
//!
//! ```sh
//! cargo run -p trainer --example residual
//! ```

use std::ops::Range;

use trainer::candle_core::{D, Device, Result, Tensor};
use trainer::candle_nn::{Linear, Module, VarBuilder, linear, ops::log_softmax};
use trainer::{
    Batch, Batches, Data, DataLoader, FitConfig, Flow, Group, Mode, Model, Outcome, Params,
    Schedule, SgdConfig, Stage, cross_entropy,
};

const WIDTH: usize = 16;

struct ResNet {
    names: [String; 1],
    stem: Linear,
    blocks: Vec<[Linear; 2]>,
    head: Linear,
}

impl ResNet {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let block = |index: usize| {
            let vb = vb.pp("blocks").pp(index);
            Ok([
                linear(WIDTH, WIDTH, vb.pp("0"))?,
                linear(WIDTH, WIDTH, vb.pp("1"))?,
            ])
        };
        Ok(Self {
            // The empty name covers all parameters.
            names: [String::new()],
            stem: linear(2, WIDTH, vb.pp("stem"))?,
            blocks: (0..3).map(block).collect::<Result<_>>()?,
            head: linear(WIDTH, 2, vb.pp("head"))?,
        })
    }
}

impl Model for ResNet {
    fn layer_names(&self) -> &[String] {
        &self.names
    }

    /// Runs the whole network: with a single layer, `fit` asks for no other range.
    fn forward_layers(&self, x: &Tensor, _: Range<usize>, _: Mode) -> Result<Tensor> {
        let mut x = self.stem.forward(x)?;
        for [first, second] in &self.blocks {
            let residual = second.forward(&first.forward(&x.relu()?)?.relu()?)?;
            x = (x + residual)?;
        }
        self.head.forward(&x.relu()?)
    }

    /// Cross entropy with label smoothing 0.1, as in `torch.nn.CrossEntropyLoss`.
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let uniform = log_softmax(logits, D::Minus1)?.mean_all()?.neg()?;
        (cross_entropy(logits, targets)? * 0.9)? + (uniform * 0.1)?
    }
}

/// A batch of points in two concentric rings, one for each class.
struct Rings {
    samples: usize,
}

impl DataLoader for Rings {
    fn samples(&self) -> usize {
        self.samples
    }

    fn epoch(&self, _: u64, first_batch: usize) -> Batches<'_> {
        let batch = || {
            let indices: Vec<usize> = (0..self.samples).collect();
            let point = |&index: &usize| {
                let angle = std::f32::consts::TAU * index as f32 / self.samples as f32;
                let radius = [0.5, 1.0][index % 2] + 0.15 * (31.0 * angle).sin();
                [radius * angle.cos(), radius * angle.sin()]
            };
            let points: Vec<[f32; 2]> = indices.iter().map(point).collect();
            let targets: Vec<u32> = indices.iter().map(|index| *index as u32 % 2).collect();
            Ok(Batch {
                inputs: Tensor::from_slice(points.as_flattened(), (points.len(), 2), &Device::Cpu)?,
                targets: Tensor::new(targets, &Device::Cpu)?,
                indices,
            })
        };
        Box::new((first_batch..1).map(move |_| batch()))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let params = Params::new(1234, &Device::Cpu);
    ResNet::new(params.var_builder())?; // initializes the parameters
    // Patterns select parameters as in any other model, here all but the stem.
    params.set_trainable(&["blocks", "head"])?;
    let momentum = SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let mut stage = Stage::new(&params, momentum, vec![Group::everything(0.05)])?;
    let config = FitConfig {
        epochs: 100,
        schedule: Schedule::Cosine {
            epochs: 100,
            warmup: 5,
        },
        ..FitConfig::default()
    };
    let data = Data {
        train: &Rings { samples: 200 },
        val: &Rings { samples: 90 },
    };
    let mut observe = |_: &_, _: &_| Flow::Continue;
    let outcome = trainer::fit(
        &params,
        ResNet::new,
        data,
        &config,
        &mut stage,
        &mut observe,
    )?;
    println!("{outcome:?}");
    assert!(matches!(outcome, Outcome::Finished { accuracy, .. } if accuracy > 0.95));
    Ok(())
}
