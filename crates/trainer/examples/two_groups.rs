//! Trains a small candle model in two stages: first the head, then all layers, with a lower
//! learning rate for the body than for the head.
//!
//! ```sh
//! cargo run --release -p trainer --example two_groups
//! ```

use std::ops::Range;

use trainer::candle_core::{self, Device, Tensor};
use trainer::candle_nn::{Linear, Module, VarBuilder, linear};
use trainer::{
    Batch, Batches, Data, DataLoader, Event, FitConfig, Flow, Group, Mode, Model, Params, Phase,
    Schedule, SgdConfig, Stage,
};

/// A multilayer perceptron with two inputs and two classes.
struct Mlp {
    names: Vec<String>,
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        let sizes = [("body.0", 2, 16), ("body.1", 16, 16), ("head", 16, 2)];
        let layers = sizes
            .iter()
            .map(|&(name, from, to)| linear(from, to, vb.pp(name)));
        let names = sizes.iter().map(|(name, ..)| name.to_string()).collect();
        Ok(Self {
            names,
            layers: layers.collect::<candle_core::Result<_>>()?,
        })
    }
}

impl Model for Mlp {
    fn layer_names(&self) -> &[String] {
        &self.names
    }

    fn forward_layers(
        &self,
        x: &Tensor,
        layers: Range<usize>,
        _: Mode,
    ) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for layer in layers {
            x = self.layers[layer].forward(&x)?;
            if layer + 1 < self.layers.len() {
                x = x.relu()?;
            }
        }
        Ok(x)
    }
}

/// A data set of points on two spirals, one for each class.
struct Spirals {
    samples: usize,
    /// Offset of the points along the spirals, as a fraction of the distance between two points.
    /// Differs between train and val.
    shift: f32,
}

impl Spirals {
    const BATCH: usize = 16;

    fn point(&self, index: usize) -> ([f32; 2], u32) {
        let class = index % 2;
        let t = ((index / 2) as f32 + self.shift) / (self.samples / 2) as f32;
        let angle = 4.0 * t + std::f32::consts::PI * class as f32;
        (
            [(0.3 + t) * angle.cos(), (0.3 + t) * angle.sin()],
            class as u32,
        )
    }
}

impl DataLoader for Spirals {
    fn samples(&self) -> usize {
        self.samples
    }

    fn epoch(&self, epoch: u64, first_batch: usize) -> Batches<'_> {
        // The order of the samples depends on the epoch. An odd stride visits each sample once,
        // because the number of samples is a power of two.
        let stride = 2 * epoch as usize + 37;
        let order: Vec<usize> = (0..self.samples)
            .map(|i| (i * stride) % self.samples)
            .collect();
        let batches: Vec<Vec<usize>> = order.chunks(Self::BATCH).map(<[_]>::to_vec).collect();
        Box::new(batches.into_iter().skip(first_batch).map(|indices| {
            let points: Vec<_> = indices.iter().map(|&i| self.point(i)).collect();
            let inputs: Vec<f32> = points.iter().flat_map(|(x, _)| *x).collect();
            let targets: Vec<_> = points.iter().map(|(_, class)| *class).collect();
            let inputs = Tensor::from_vec(inputs, (indices.len(), 2), &Device::Cpu)?;
            Ok(Batch {
                inputs,
                targets: Tensor::new(targets, &Device::Cpu)?,
                indices,
            })
        }))
    }
}

/// Prints the start and end of a stage and the validation of every 20th epoch. The library itself
/// prints nothing.
fn show(event: &Event, _: &Stage) -> Flow {
    match event {
        Event::StageStart { counts, groups, .. } => {
            println!(
                "{} trainable parameters, {} frozen",
                counts.trainable, counts.frozen
            );
            for group in groups {
                println!(
                    "  {:<6} {:>4} parameters, lr {}",
                    group.pattern, group.parameters, group.lr
                );
            }
        }
        Event::PhaseEnd {
            phase: Phase::Val,
            epoch,
            loss,
            accuracy,
            ..
        } if epoch % 20 == 0 => {
            println!("epoch {epoch:>3}: val loss {loss:.4}, accuracy {accuracy:.3}");
        }
        Event::StageEnd { best, accuracy, .. } => {
            println!("best: {best:?}, accuracy {accuracy:.3}\n");
        }
        _ => {}
    }
    Flow::Continue
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let params = Params::new(1234, &Device::Cpu);
    Mlp::new(params.var_builder())?; // initializes the parameters
    let data = Data {
        train: &Spirals {
            samples: 256,
            shift: 0.0,
        },
        val: &Spirals {
            samples: 128,
            shift: 0.5,
        },
    };
    let momentum = SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    };

    params.set_trainable(&["head"])?;
    let mut stage = Stage::new(&params, momentum, vec![Group::new("head", 0.1)])?;
    let config = FitConfig {
        epochs: 20,
        ..FitConfig::default()
    };
    trainer::fit(&params, Mlp::new, data, &config, &mut stage, &mut show)?;

    params.set_trainable(&["body", "head"])?;
    let mut stage = Stage::new(
        &params,
        momentum,
        vec![Group::new("body", 0.05), Group::new("head", 0.1)],
    )?;
    let config = FitConfig {
        epochs: 80,
        schedule: Schedule::Cosine {
            epochs: 80,
            warmup: 4,
        },
        ..config
    };
    trainer::fit(&params, Mlp::new, data, &config, &mut stage, &mut show)?;
    Ok(())
}
