//! Saves a stage in the middle of an epoch and resumes it. The result is the same, to the bit, as
//! without the interruption. Early stopping ends both runs.
//!
//! ```sh
//! cargo run -p trainer --example resume
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use trainer::candle_core::{self, Device, Tensor};
use trainer::candle_nn::{Linear, Module, VarBuilder, linear};
use trainer::{
    Batch, Batches, Data, DataLoader, Event, FitConfig, Flow, Group, Mode, Model, Params, Phase,
    Snapshot, Stage, StageState,
};

/// A network with one hidden layer.
struct Mlp {
    names: [String; 1],
    body: Linear,
    head: Linear,
}

impl Mlp {
    fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        Ok(Self {
            names: [String::new()],
            body: linear(2, 16, vb.pp("body"))?,
            head: linear(16, 2, vb.pp("head"))?,
        })
    }
}

impl Model for Mlp {
    fn layer_names(&self) -> &[String] {
        &self.names
    }

    fn forward_layers(&self, x: &Tensor, _: Range<usize>, _: Mode) -> candle_core::Result<Tensor> {
        self.head.forward(&self.body.forward(x)?.tanh()?)
    }
}

/// Points in a square, in 8 batches of 16. The class tells whether they are in a circle.
struct Points {
    first: usize,
}

impl DataLoader for Points {
    fn samples(&self) -> usize {
        128
    }

    fn epoch(&self, _: u64, first_batch: usize) -> Batches<'_> {
        let batch = |batch| {
            let indices: Vec<usize> = (16 * batch..16 * (batch + 1)).collect();
            // Fractional parts of multiples of irrational numbers fill the square evenly.
            let point = |index: &usize| {
                let number = (self.first + index) as f32;
                [0.7549, 0.5698].map(|ratio: f32| 2.0 * (number * ratio).fract() - 1.0)
            };
            let points: Vec<[f32; 2]> = indices.iter().map(point).collect();
            let is_inside = |[x, y]: &[f32; 2]| u32::from(x * x + y * y < 0.6);
            let targets: Vec<u32> = points.iter().map(is_inside).collect();
            Ok(Batch {
                inputs: Tensor::from_slice(points.as_flattened(), (points.len(), 2), &Device::Cpu)?,
                targets: Tensor::new(targets, &Device::Cpu)?,
                indices,
            })
        };
        Box::new((first_batch..8).map(batch))
    }
}

/// Everything that [`Stage::resume`] needs. A program writes it to a file. The state implements
/// serde's `Serialize`.
struct Saved {
    state: StageState,
    weights: BTreeMap<String, Tensor>,
    velocities: BTreeMap<String, Tensor>,
    best: BTreeMap<String, Tensor>,
}

fn save(params: &Params, stage: &Stage) -> Result<Saved, Box<dyn std::error::Error>> {
    let tensors = |snapshots: BTreeMap<String, Snapshot>| {
        let snapshots = snapshots.into_iter();
        let tensors = snapshots.map(|(name, snapshot)| Ok((name, snapshot.to_tensor()?)));
        tensors.collect::<candle_core::Result<_>>()
    };
    let best = stage.best().map(|best| best.weights.tensors().clone());
    Ok(Saved {
        state: stage.state(),
        weights: tensors(params.snapshot(|_| true)?)?,
        velocities: tensors(stage.sgd().snapshot_velocities()?)?,
        best: best.unwrap_or_default(),
    })
}

/// Finishes the stage after 10 epochs without a better validation accuracy.
fn patience(event: &Event, stage: &Stage) -> Flow {
    match (event, stage.best()) {
        (
            Event::PhaseEnd {
                phase: Phase::Val,
                epoch,
                ..
            },
            Some(best),
        ) if epoch - best.epoch >= 10 => Flow::Finish,
        _ => Flow::Continue,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = Data {
        train: &Points { first: 0 },
        val: &Points { first: 128 },
    };
    let config = FitConfig {
        epochs: 1000,
        ..FitConfig::default()
    };
    let sgd = trainer::SgdConfig {
        momentum: 0.9,
        ..Default::default()
    };
    let groups = || vec![Group::everything(0.1)];

    let params = Params::new(1234, &Device::Cpu);
    Mlp::new(params.var_builder())?; // initializes the parameters
    let mut stage = Stage::new(&params, sgd, groups())?;
    let expected = trainer::fit(&params, Mlp::new, data, &config, &mut stage, &mut patience)?;
    println!("{expected:?}, stopped before epoch {}", stage.epoch());

    // The same stage again, interrupted in its third epoch.
    let interrupted = Params::new(1234, &Device::Cpu);
    Mlp::new(interrupted.var_builder())?;
    let mut stage = Stage::new(&interrupted, sgd, groups())?;
    let mut pause = |event: &Event, stage: &Stage| match stage.step() {
        20 => Flow::Pause,
        _ => patience(event, stage),
    };
    trainer::fit(
        &interrupted,
        Mlp::new,
        data,
        &config,
        &mut stage,
        &mut pause,
    )?;
    let saved = save(&interrupted, &stage)?;
    println!(
        "interrupted in epoch {}, batch {}",
        saved.state.epoch, saved.state.batch
    );

    // Another process would read the saved stage here.
    let resumed = Params::from_tensors(saved.weights, &Device::Cpu)?;
    resumed.set_trainable(&["body", "head"])?;
    let (state, velocities, best) = (saved.state, saved.velocities, saved.best);
    let mut stage = Stage::resume(&resumed, sgd, groups(), state, velocities, best)?;
    let outcome = trainer::fit(&resumed, Mlp::new, data, &config, &mut stage, &mut patience)?;
    assert_eq!(outcome, expected);
    for (name, weight) in resumed.tensors() {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        assert_eq!(
            values(&weight)?,
            values(&params.tensors()[&name])?,
            "{name}"
        );
    }
    println!("the resumed stage has the same weights");
    Ok(())
}
