//! VGG networks for candle, with the tensor names and outputs of torchvision, variable input size,
//! and the fast CPU kernels of the crate [`kernels`].
//!
//! This crate builds networks, loads and saves weights, and computes outputs and gradients. It has
//! no training loop and prints nothing.
//!
//! | task | start here |
//! |---|---|
//! | describe a network | [`VggConfig`], [`Summary`] |
//! | load pretrained weights, replace the head | [`load_pretrained`], [`Head`] |
//! | find the architecture of a weights file | [`detect_architecture`] |
//! | compute logits, run some of the layers | [`Vgg`] |
//! | compute features with the backbone alone | [`Features`] |
//! | see which part of an image speaks for a class | [`Vgg::heat_map`] |
//! | save a model, load a saved one | [`save`], [`load_model`] |
//! | export | [`onnx`], [`timm`] |
//! | download weights | `hub` (default feature `hub`) |
//!
//! This example loads pretrained weights into a network with other classes and classifies images.
//! The network is narrow, so that the example is fast. For VGG-16 itself, use [`VggConfig::vgg16`]
//! and weights downloaded by `hub::fetch`, which needs the default feature `hub`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use vgg::{Head, Metadata, Mode, Vgg, VggConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::Cpu;
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("pretrained.safetensors");
//!
//! // A pretrained network with three classes.
//! let config = VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 3);
//! let tensors = vgg::init::from_scratch(&config, 1234, &device)?;
//! let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
//! let classes = ["ant", "bee", "wasp"].map(String::from).to_vec();
//! let metadata = Metadata { config: config.clone(), classes, mean, std, temperature: 1.0 };
//! vgg::save(&path, &tensors, &metadata)?;
//!
//! // A network with two classes: everything is loaded except the head, which is newly initialized.
//! let config = VggConfig { classes: 2, ..config };
//! let loaded = vgg::load_pretrained(&path, &config, Head::Replace, 1234, &device)?;
//! assert_eq!(loaded.report.initialized_layers(), ["classifier.6"]);
//!
//! let network = Vgg::from_tensors(&config, loaded.tensors, &device)?;
//! let images = Tensor::zeros((5, 3, 64, 64), DType::F32, &device)?;
//! let logits = network.forward(&images, Mode::Eval)?;
//! assert_eq!(logits.dims(), [5, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `hub` (default) downloads weights from the Hugging Face Hub.
//! - `trainer` implements `trainer::Model` for [`Vgg`].
//! - `cuda`, `cudnn`, `metal`, `accelerate` and `mkl` enable the features of the same names
//!   in candle and in `kernels`.

#![forbid(unsafe_code)]

pub mod config;
mod detect;
mod dropout;
pub mod error;
mod features;
mod file;
mod heat_map;
#[cfg(feature = "hub")]
pub mod hub;
pub mod init;
mod matching;
mod memory;
pub mod metadata;
mod model;
pub mod names;
mod norm;
pub mod onnx;
mod open;
mod precision;
mod pth;
mod python;
mod random;
mod save;
mod select;
mod sniff;
mod summary;
pub mod timm;
#[cfg(feature = "trainer")]
mod trainer;
mod weights;
mod weights_file;

pub use candle_core;
pub use candle_nn;
#[doc(inline)]
pub use config::VggConfig;
pub use detect::detect_architecture;
#[doc(inline)]
pub use error::Error;
pub use features::Features;
pub use heat_map::{HeatMap, HeatMapMethod};
pub use kernels;
#[doc(inline)]
pub use memory::MAX_IMAGE_BYTES;
pub use metadata::Metadata;
pub use model::{Mode, Vgg};
pub use precision::Precision;
pub use save::{save, save_to};
pub use summary::Summary;
pub use weights::{Head, Loaded, Model, Report, load_model, load_pretrained, read_metadata};
pub use weights_file::split_key;
