//! Transfer learning for candle models: freezing, SGD with parameter groups, a deterministic loop.
//!
//! The crate knows neither pictures nor a particular network, and it never prints: a model is anything that
//! implements [`Model`], data anything that implements [`Split`], and what happens is told as [`Event`]s.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use candle_nn::{Linear, Module, VarBuilder, linear};
//! use std::ops::Range;
//! use trainer::{Batch, Batches, Data, FitConfig, Flow, Group, Mode, Model, Params, SgdConfig, DataLoader, Stage};
//!
//! /// A model names its layers and can run some of them.
//! struct Mlp(Vec<Linear>, Vec<String>);
//!
//! impl Mlp {
//!     fn new(vb: VarBuilder) -> candle_core::Result<Self> {
//!         let layers = vec![linear(2, 8, vb.pp("body"))?, linear(8, 2, vb.pp("head"))?];
//!         Ok(Self(layers, vec!["body".into(), "head".into()]))
//!     }
//! }
//!
//! impl Model for Mlp {
//!     fn layer_names(&self) -> &[String] {
//!         &self.1
//!     }
//!     fn forward_layers(&self, x: &Tensor, layers: Range<usize>, _: Mode) -> candle_core::Result<Tensor> {
//!         let mut x = x.clone();
//!         for i in layers {
//!             x = self.0[i].forward(&x)?;
//!             if i == 0 {
//!                 x = x.tanh()?;
//!             }
//!         }
//!         Ok(x)
//!     }
//! }
//!
//! /// Four points: class 1 where the two coordinates differ in sign.
//! struct Xor;
//!
//! impl DataLoader for Xor {
//!     fn samples(&self) -> usize {
//!         4
//!     }
//!     fn epoch(&self, _epoch: u64, first: usize) -> Batches<'_> {
//!         let batch = || {
//!             let inputs = Tensor::new(&[[-1f32, -1.], [-1., 1.], [1., -1.], [1., 1.]], &Device::Cpu)?;
//!             let targets = Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu)?;
//!             Ok(Batch { inputs, targets, indices: vec![0, 1, 2, 3] })
//!         };
//!         Box::new((first..1).map(move |_| batch()))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let params = Params::new(1234, &Device::Cpu);
//! Mlp::new(params.var_builder())?; // creates the parameters
//! params.set_trainable(&["body", "head"])?;
//!
//! let sgd = SgdConfig { momentum: 0.9, ..SgdConfig::default() };
//! let mut stage = Stage::new(&params, sgd, vec![Group::new("body", 0.05), Group::new("head", 0.1)])?;
//! let data = Data { train: &Xor, val: &Xor };
//! let config = FitConfig { epochs: 60, ..FitConfig::default() };
//! trainer::fit(&params, |vb| Mlp::new(vb), data, &config, &mut stage, &mut |_, _| Flow::Continue)?;
//!
//! assert_eq!(stage.best().expect("an epoch was validated").accuracy, 1.0);
//! # Ok(()) }
//! ```
//!
//! Everything is deterministic: with the same seed, data and number of threads, two runs give the same bits.
//! What may differ from PyTorch is said where it is; the update rule, the loss and the loop are its.

mod data;
mod error;
mod evaluate;
mod event;
mod fit;
mod fused;
mod gradients;
mod init;
mod loss;
mod low_rank;
mod metrics;
mod model;
mod params;
pub mod pattern;
mod schedule;
mod sgd;
mod snapshot;
mod stage;
mod update;
mod var_builder;

pub use data::{Batch, Batches, Data, DataLoader};
pub use error::{BoxError, Error, NonFiniteLoss};
pub use evaluate::{Evaluation, FrozenCache, Prediction, evaluate};
pub use event::{Event, Flow, GroupLr, Observer, Phase};
pub use fit::{FitConfig, Outcome, fit};
pub use gradients::{Gradient, Gradients};
pub use loss::cross_entropy;
pub use metrics::{ConfusionMatrix, EpochMetrics, Progress};
pub use model::{Mode, Model, first_trainable_layer};
pub use params::{BestWeights, Counts, Params};
pub use schedule::Schedule;
pub use sgd::{Group, Sgd, SgdConfig};
pub use snapshot::Snapshot;
pub use stage::{BestEpoch, BestState, Stage, StageState};
