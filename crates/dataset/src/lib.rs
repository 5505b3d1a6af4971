//! Turns folders of images into batches for a network, with torchvision's semantics.
//!
//! A data set is a folder with one subfolder per class. [`ImageFolder`] lists its images.
//! [`Loader`] makes batches of decoded, augmented and normalized images on worker threads. The
//! steps are also available on their own: [`decode()`], [`transform`], [`contact_sheet`].
//! [`inspect()`] searches a data set for problems.
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
//! let config = LoaderConfig { batch_size: 2, workers: 2, ..LoaderConfig::train(64) };
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
//! epoch is a function of (seed, `e`). Batches are bit-identical regardless of timing, the number
//! of workers and the cache.
//!
//! **Differences from torchvision.** The EXIF orientation is applied. 16-bit gray is scaled to 8
//! bits instead of saturated. Hidden files and folders are skipped. All splits share the class map
//! of the training split.
//!
//! This crate does not depend on a model and never prints.

pub mod contact_sheet;
pub mod decode;
mod error;
pub mod image_folder;
pub mod inspect;
mod layout_hint;
mod loader;
mod rng;
pub mod sample;
#[cfg(feature = "trainer")]
mod trainer;
pub mod transform;
mod verify;

pub use decode::{DecodeOptions, Decoder, decode};
pub use error::{Error, Result};
pub use image_folder::{ImageFolder, Sample};
pub use inspect::{InspectOptions, Report, inspect};
pub use layout_hint::LayoutHint;
pub use loader::{Batch, DecodeFn, Epoch, Loader, LoaderConfig};
pub use transform::{Normalize, Transform};
pub use verify::{find_bad_images, verify};
