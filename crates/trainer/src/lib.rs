//! Transfer learning for candle models: frozen layers, SGD with parameter groups, and a
//! deterministic training loop.
//!
//! | task | start here |
//! |---|---|
//! | store the parameters of a model, select the trainable layers | [`Params`] |
//! | make a model or a data set usable | [`Model`], [`DataLoader`] |
//! | train a stage, pause it, stop it early | [`fit()`], [`Stage`], [`Flow`] |
//! | save and resume a stage | [`Stage::state`], [`Stage::resume`] |
//! | write the training loop yourself | [`Gradients::backward`], [`Sgd::step`] |
//! | measure a model | [`evaluate()`] |
//!
//! - [`Params`] stores the parameters of a model by name. Any candle model can be built from it
//!   through a `VarBuilder`. Layer name prefixes select the trainable layers. Frozen layers record
//!   no graph and compute no gradients.
//! - [`Sgd`] implements `torch.optim.SGD`: momentum, dampening, weight decay, Nesterov momentum,
//!   and a learning rate per parameter group.
//! - [`fit()`] trains one stage and restores the weights with the best validation accuracy. A
//!   [`Stage`] can be paused between any two batches, saved, and resumed with bit-identical
//!   results.
//! - [`evaluate()`] computes loss, accuracy, confusion matrix and predictions for a split.
//!
//! The crate contains no data sets, no networks and no file formats, and it never prints. A model
//! is a type that implements [`Model`], data comes from a type that implements [`DataLoader`], and
//! progress is reported as [`Event`]s. The loss is the cross entropy unless the model overrides
//! [`Model::loss`]. Training uses one device.
//!
//! # Example
//!
//! Train a two-layer network on XOR, with one learning rate per layer:
//!
//! ```
//! use std::ops::Range;
//!
//! use candle_core::{Device, Result, Tensor};
//! use candle_nn::{Linear, Module, VarBuilder, linear};
//! use trainer::{
//!     Batch, Batches, Data, DataLoader, FitConfig, Flow, Group, Mode, Model, Params, SgdConfig, Stage,
//! };
//!
//! /// A model names its layers and can run any range of them.
//! struct Mlp {
//!     names: Vec<String>,
//!     layers: Vec<Linear>,
//! }
//!
//! impl Mlp {
//!     fn new(vb: VarBuilder) -> Result<Self> {
//!         Ok(Self {
//!             names: vec!["body".into(), "head".into()],
//!             layers: vec![linear(2, 8, vb.pp("body"))?, linear(8, 2, vb.pp("head"))?],
//!         })
//!     }
//! }
//!
//! impl Model for Mlp {
//!     fn layer_names(&self) -> &[String] {
//!         &self.names
//!     }
//!
//!     fn forward_layers(&self, x: &Tensor, layers: Range<usize>, _: Mode) -> Result<Tensor> {
//!         let mut x = x.clone();
//!         for i in layers {
//!             x = self.layers[i].forward(&x)?;
//!             if i == 0 {
//!                 x = x.tanh()?;
//!             }
//!         }
//!         Ok(x)
//!     }
//! }
//!
//! /// Four points in one batch. The class is 1 if the signs of the coordinates differ.
//! struct Xor;
//!
//! impl DataLoader for Xor {
//!     fn samples(&self) -> usize {
//!         4
//!     }
//!
//!     fn epoch(&self, _epoch: u64, first_batch: usize) -> Batches<'_> {
//!         let batch = || {
//!             Ok(Batch {
//!                 inputs: Tensor::new(&[[-1f32, -1.], [-1., 1.], [1., -1.], [1., 1.]], &Device::Cpu)?,
//!                 targets: Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu)?,
//!                 indices: vec![0, 1, 2, 3],
//!             })
//!         };
//!         Box::new((first_batch..1).map(move |_| batch()))
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let params = Params::new(1234, &Device::Cpu);
//! Mlp::new(params.var_builder())?; // initializes the parameters
//! params.set_trainable(&["body", "head"])?;
//!
//! let sgd = SgdConfig { momentum: 0.9, ..SgdConfig::default() };
//! let groups = vec![Group::new("body", 0.05), Group::new("head", 0.1)];
//! let mut stage = Stage::new(&params, sgd, groups)?;
//! let data = Data { train: &Xor, val: &Xor };
//! let config = FitConfig { epochs: 60, ..FitConfig::default() };
//! trainer::fit(&params, Mlp::new, data, &config, &mut stage, &mut |_, _| Flow::Continue)?;
//!
//! assert_eq!(stage.best().expect("a validated epoch").accuracy, 1.0);
//! # Ok(()) }
//! ```
//!
//! More programs are in the folder `examples`:
//!
//! | example | shows |
//! |---|---|
//! | `two_groups.rs` | two stages: first the head, then the whole network, with a learning rate per group |
//! | `resume.rs` | early stopping, and a stage that is interrupted, saved and resumed |
//! | `residual.rs` | a model that is not a sequence of layers, and another loss |
//! | `own_loop.rs` | a training loop without `fit`, for regression with clipped gradients |
//!
//! # Features
//!
//! `cuda`, `cudnn`, `metal`, `accelerate` and `mkl` enable candle's features of the same names.
//!
//! # Determinism
//!
//! With the same seed, data, device and number of threads, two runs produce the same bits. The
//! crate does not use candle's random generator, which cannot be seeded on the CPU. The data loader
//! derives a batch from (seed, epoch, batch), and the model derives a dropout mask from (seed,
//! step, layer).
//!
//! # Differences from PyTorch
//!
//! The update rule and the loss match PyTorch, and the loop matches its transfer-learning notebook.
//! The differences are:
//!
//! - Frozen leading layers run without a graph. Validation caches their outputs across epochs
//!   ([`FrozenCache`]). The results are the same.
//! - PyTorch skips a parameter without a gradient silently. So does [`Sgd::step`], but [`fit()`]
//!   returns [`Error::MissingGradient`] in the first step, because some candle operations cut the
//!   graph.
//! - A loss that is NaN or infinite stops the stage with [`Error::NonFiniteLoss`].
//! - New parameters are initialized from candle's `Init` hints (see [`Params::new`]).
//! - [`Schedule`]s are functions of the epoch and have no state.

#![forbid(unsafe_code)]

mod data;
mod error;
mod evaluate;
mod event;
mod fit;
mod gradients;
mod group;
mod loss;
mod metrics;
mod model;
mod params;
pub mod pattern;
mod schedule;
mod sgd;
mod snapshot;
mod stage;

pub use candle_core;
pub use candle_nn;

pub use data::{Batch, Batches, Data, DataLoader};
pub use error::{BoxError, Error, NonFiniteLoss};
pub use evaluate::{Evaluation, FrozenCache, Prediction, evaluate};
pub use event::{Best, Event, Flow};
pub use fit::{FitConfig, Observer, Outcome, fit};
pub use gradients::{Gradient, Gradients};
pub use group::{Group, GroupLr};
pub use loss::cross_entropy;
pub use metrics::{ConfusionMatrix, EpochMetrics, Phase, Progress};
pub use model::{Mode, Model, first_trainable_layer};
pub use params::{BestWeights, Counts, Params};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdConfig};
pub use snapshot::Snapshot;
pub use stage::{BestEpoch, BestState, Stage, StageState};
