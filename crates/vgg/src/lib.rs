//! VGG networks for candle: torchvision's names and numbers, any input size, weights in and out.
//!
//! This crate builds networks, reads and writes their weights and computes; it does not train and does not print.
//!
//! A pretrained network for other classes, and what it says about a picture (here a narrow network, so that the
//! example runs in a moment; [`VggConfig::vgg16`] is the real one, and [`hub::fetch`] has its weights):
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use vgg::{Head, Metadata, Mode, Vgg, VggConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::Cpu;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("pretrained.safetensors");
//!
//! // Somebody trained a network for three classes.
//! let config = VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 3);
//! let tensors = vgg::init::from_scratch(&config, 1234, &device)?;
//! let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
//! let classes = ["ant", "bee", "wasp"].map(String::from).to_vec();
//! vgg::save(&path, &tensors, &Metadata { config: config.clone(), classes, mean, std })?;
//!
//! // We have two: everything is loaded but the head, which is fresh.
//! let config = VggConfig { classes: 2, ..config };
//! let loaded = vgg::load_pretrained(&path, &config, Head::Fresh, 1234, &device)?;
//! assert_eq!(loaded.report.fresh_layers(), ["classifier.6"]);
//!
//! let tensors = loaded.tensors.into_iter().collect();
//! let network = Vgg::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &device))?;
//! let pictures = Tensor::zeros((5, 3, 64, 64), DType::F32, &device)?;
//! let logits = network.forward(&pictures, Mode::Eval)?;
//! assert_eq!(logits.dims(), [5, 2]);
//! # Ok(())
//! # }
//! ```

mod checkpoint;
pub mod config;
mod dropout;
pub mod error;
mod file;
mod foreign;
pub mod hub;
pub mod init;
pub mod kernels;
pub mod metadata;
mod model;
pub mod names;
mod norm;
pub mod onnx;
mod precision;
mod pth;
mod random;
mod recognise;
mod summary;
pub mod timm;
mod weights;

pub use config::VggConfig;
pub use error::Error;
pub use metadata::Metadata;
pub use model::{Mode, Vgg};
pub use precision::Precision;
pub use recognise::recognise;
pub use summary::Summary;
pub use weights::{Head, Loaded, Model, Report, load_model, load_pretrained, read_metadata, save};
