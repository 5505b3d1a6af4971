//! Turns folders of images into batches for a network, with torchvision's semantics.
//!
//! A data set is a folder of splits, such as `train` and `val`. A split is a folder with one
//! subfolder per class.
//!
//! | task | start here |
//! |---|---|
//! | list the images and classes of a split | [`ImageFolder`] |
//! | load batches for training and validation on worker threads | [`Loader`], [`LoaderConfig`] |
//! | decode images of another format or source, or add an augmentation | [`LoaderConfig::decode_with`], [`LoaderConfig::augment`] |
//! | turn the bytes of one image into the network's input | [`Transform::prepare`] |
//! | find damaged files, duplicates and other problems | [`verify`], [`inspect()`] |
//! | use a single step | [`decode()`], [`transform`], [`contact_sheet`] |
//!
//! ```
//! use dataset::{ImageFolder, Loader, LoaderConfig};
//!
//! # let root = tempfile::tempdir()?;
//! # for file in ["train/ants/1.png", "train/ants/2.png", "train/bees/1.png", "val/bees/1.png"] {
//! #     let path = root.path().join(file);
//! #     std::fs::create_dir_all(path.parent().unwrap())?;
//! #     image::RgbImage::from_pixel(80, 60, image::Rgb([200, 120, 40])).save(path)?;
//! # }
//! # let root = root.path();
//! // root/train/ants/…, root/train/bees/…, root/val/bees/…
//! let (train, val) = ImageFolder::train_and_val(root)?;
//! assert_eq!(train.classes(), ["ants", "bees"]);
//! assert_eq!(train.counts(), [2, 1]);
//! dataset::verify(val.samples(), &Default::default(), 2)?; // lists all undecodable images
//!
//! let config = LoaderConfig::train(64).batch_size(2).workers(2);
//! let loader = Loader::new(train.samples(), config)?;
//! for batch in loader.epoch(0) {
//!     let batch = batch?;
//!     let (n, channels, height, width) = batch.images.dims4()?;
//!     assert_eq!((channels, height, width), (3, 64, 64));
//!     assert_eq!(batch.labels.dims(), [n]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Determinism.** Sample `i` of epoch `e` is a function of (seed, `e`, `i`), and the order of an
//! epoch is a function of (seed, `e`). If the caller's own functions are deterministic, batches are
//! bit-identical regardless of timing, the number of workers and the cache.
//!
//! **Differences from torchvision.** Files with the extensions `jfif`, `jpe`, `apng`, `pbm` and `pnm`
//! are images too. The orientation in EXIF or XMP metadata is applied. 16-bit gray keeps its high
//! byte instead of being saturated. JPEG and lossy WebP pixels differ slightly, see
//! [`decode`](mod@decode). Hidden files and folders are skipped. Within a class folder, each folder is
//! listed once, and links to a folder that contains them are not followed. A folder in two classes is
//! an error. All splits share the class map of the training split.
//!
//! **Features.** `titles` (default) draws text on images. `trainer` implements
//! `trainer::DataLoader` for [`Loader`]. `cuda`, `cudnn`, `metal`, `accelerate` and `mkl` enable
//! candle's features of the same names.
//!
//! This crate does not depend on a model and never prints.

#[macro_use]
mod setters;

pub mod contact_sheet;
pub mod decode;
pub mod error;
mod file_kind;
pub mod image_folder;
pub mod inspect;
mod layout;
mod layout_hint;
mod loader;
mod open;
mod panic;
pub mod path_text;
mod plan;
mod resample;
mod rng;
#[cfg(feature = "trainer")]
mod trainer;
pub mod transform;
mod unused;
mod verify;
mod walk;

pub use candle_core;
pub use image;

#[doc(inline)]
pub use decode::{DecodeOptions, Decoder, decode};
#[doc(inline)]
pub use error::Error;
pub use file_kind::FileKind;
#[doc(inline)]
pub use image_folder::{ImageFolder, Sample};
#[doc(inline)]
pub use inspect::{InspectOptions, Report, inspect};
pub use layout_hint::LayoutHint;
pub use loader::{Batch, Epoch, Loader, LoaderConfig};
pub use rng::Stream;
#[doc(inline)]
pub use transform::{Normalize, Transform};
pub use verify::{find_bad_images, verify};
