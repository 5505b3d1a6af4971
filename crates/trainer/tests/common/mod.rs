//! A small model, a small data set, and helper functions for the tests of this crate.

#![allow(dead_code)] // each test file uses only some of these items

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};
use trainer::{
    Batch, Batches, Data, DataLoader, Error, Evaluation, Event, FitConfig, Flow, FrozenCache,
    Group, Mode, Model, Outcome, Params, Phase, SgdConfig, Stage, cross_entropy, evaluate, fit,
};

pub const INPUTS: usize = 3;
pub const HIDDEN: usize = 7;
pub const CLASSES: usize = 2;

/// The layer range and mode of each call to `forward_layers`.
pub type Calls = Rc<RefCell<Vec<(Range<usize>, Mode)>>>;

/// A model with three linear layers, `body.0`, `body.1` and `head`, and tanh between them.
pub struct Mlp {
    names: Vec<String>,
    layers: Vec<Linear>,
    calls: Calls,
    /// Whether to cut the graph before the head, like an operation without a backward pass.
    cuts_graph: bool,
    loss_scale: Option<f64>,
}

/// Builds [`Mlp`]s that record their calls to `forward_layers`.
#[derive(Clone, Default)]
pub struct Builder {
    pub calls: Calls,
    pub cuts_graph: bool,
    /// Factor by which the loss multiplies the cross entropy. `None` means 1.
    pub loss_scale: Option<f64>,
}

impl Builder {
    pub fn build(&self, vb: VarBuilder) -> candle_core::Result<Mlp> {
        let layers = vec![
            linear(INPUTS, HIDDEN, vb.pp("body.0"))?,
            linear(HIDDEN, HIDDEN, vb.pp("body.1"))?,
            linear(HIDDEN, CLASSES, vb.pp("head"))?,
        ];
        let names = ["body.0", "body.1", "head"].map(String::from).to_vec();
        Ok(Mlp {
            names,
            layers,
            calls: self.calls.clone(),
            cuts_graph: self.cuts_graph,
            loss_scale: self.loss_scale,
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
        mode: Mode,
    ) -> candle_core::Result<Tensor> {
        self.calls.borrow_mut().push((layers.clone(), mode));
        let mut x = x.clone();
        for layer in layers {
            if self.cuts_graph && layer == 2 {
                x = x.detach();
            }
            x = self.layers[layer].forward(&x)?;
            if layer < 2 {
                x = x.tanh()?;
            }
            if let Mode::Train { seed, step } = mode {
                // A stand-in for dropout that also depends on (seed, step).
                x = x.affine(1.0 + 1e-3 * ((seed + step) % 7) as f64, 0.0)?;
            }
        }
        Ok(x)
    }

    fn loss(&self, logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
        cross_entropy(logits, targets)? * self.loss_scale.unwrap_or(1.0)
    }
}

/// A data set of pseudorandom points around two centers, one per class. If `shuffled` is true, the
/// order of the points depends on the epoch.
pub struct Points {
    pub samples: usize,
    pub batch: usize,
    pub seed: u64,
    pub shuffled: bool,
    /// First epoch in which the classes are swapped. They stay swapped in all later epochs.
    pub flipped_from: u64,
    /// Number of batches loaded so far.
    pub batches_loaded: Cell<usize>,
}

impl Points {
    pub fn train(samples: usize) -> Self {
        Self {
            samples,
            batch: 8,
            seed: 1,
            shuffled: true,
            flipped_from: u64::MAX,
            batches_loaded: Cell::new(0),
        }
    }

    pub fn val(samples: usize) -> Self {
        Self {
            seed: 2,
            shuffled: false,
            ..Self::train(samples)
        }
    }

    pub fn point(&self, index: usize) -> ([f32; INPUTS], u32) {
        let mut state = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (self.seed << 40);
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let class = index % CLASSES;
        let center = if class == 0 { 0.3 } else { -0.3 };
        ([0; INPUTS].map(|_| center + noise()), class as u32)
    }
}

impl DataLoader for Points {
    fn samples(&self) -> usize {
        self.samples
    }

    fn epoch(&self, epoch: u64, first_batch: usize) -> Batches<'_> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if self.shuffled {
            order.sort_by_key(|&i| {
                (i as u64 + 1)
                    .wrapping_mul(epoch + 3)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    >> 32
            });
        }
        let batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[_]>::to_vec).collect();
        Box::new(batches.into_iter().skip(first_batch).map(move |indices| {
            self.batches_loaded.set(self.batches_loaded.get() + 1);
            let points: Vec<_> = indices.iter().map(|&i| self.point(i)).collect();
            let inputs: Vec<f32> = points.iter().flat_map(|(x, _)| *x).collect();
            let flip = u32::from(epoch >= self.flipped_from);
            let targets: Vec<u32> = points.iter().map(|(_, class)| class ^ flip).collect();
            Ok(Batch {
                inputs: Tensor::from_vec(inputs, (indices.len(), INPUTS), &Device::Cpu)?,
                targets: Tensor::new(targets, &Device::Cpu)?,
                indices,
            })
        }))
    }
}

/// Creates newly initialized parameters for an [`Mlp`].
pub fn mlp_params(seed: u64) -> Params {
    let params = Params::new(seed, &Device::Cpu);
    Builder::default().build(params.var_builder()).unwrap();
    params
}

/// Returns the bits of all parameters and buffers by name, for exact comparisons. All must be f32.
pub fn bits(params: &Params) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: Tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    params
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, bits(tensor)))
        .collect()
}

pub const MOMENTUM: SgdConfig = SgdConfig {
    momentum: 0.9,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
};

pub fn epochs(epochs: u64) -> FitConfig {
    FitConfig {
        epochs,
        seed: 5,
        ..FitConfig::default()
    }
}

pub fn stage(params: &Params, lr: f64) -> Stage {
    Stage::new(params, MOMENTUM, vec![Group::everything(lr)]).unwrap()
}

/// Trains an [`Mlp`] with `fit`. Returns the outcome and the events [`without_times`].
pub fn run(
    params: &Params,
    data: Data<'_>,
    config: &FitConfig,
    stage: &mut Stage,
) -> Result<(Outcome, Vec<Event>), Error> {
    let mut events = Vec::new();
    let builder = Builder::default();
    let outcome = fit(
        params,
        |vb| builder.build(vb),
        data,
        config,
        stage,
        &mut |event, _| {
            events.push(without_times(event));
            Flow::Continue
        },
    )?;
    Ok((outcome, events))
}

/// Sets durations and throughput in the event to 0, so that events of two runs can be compared.
pub fn without_times(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::PhaseEnd {
            seconds,
            samples_per_second,
            ..
        } => (*seconds, *samples_per_second) = (0.0, 0.0),
        Event::StageEnd { seconds, .. } => *seconds = 0.0,
        _ => {}
    }
    event
}

/// Returns (epoch, loss, accuracy) of each [`Event::PhaseEnd`] in the phase `selected`.
pub fn phase_ends(events: &[Event], selected: Phase) -> Vec<(u64, f64, f64)> {
    let result = |event: &Event| match *event {
        Event::PhaseEnd {
            phase,
            epoch,
            loss,
            accuracy,
            ..
        } if phase == selected => Some((epoch, loss, accuracy)),
        _ => None,
    };
    events.iter().filter_map(result).collect()
}

/// Evaluates an [`Mlp`] with the parameters `params` on `split`.
pub fn evaluate_params(params: &Params, split: &dyn DataLoader) -> Evaluation {
    let model = Builder::default()
        .build(params.frozen_var_builder())
        .unwrap();
    evaluate(&model, split, &mut FrozenCache::off(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
    .unwrap()
}
