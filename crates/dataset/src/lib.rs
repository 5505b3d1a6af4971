//! Folders of images become batches for a network, with torchvision's semantics.
//!
//! A data set is a folder with one subfolder a class. [`ImageFolder`] lists it, [`Loader`] makes batches of decoded,
//! augmented, normalized images on worker threads; each step can be used alone: [`decode()`], [`transform`],
//! [`contact_sheet`].
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
//! dataset::verify(val.samples(), &Default::default(), 2)?; // lists every image that cannot be used
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
//! **Deterministic.** What sample `i` of epoch `e` looks like is a function of (seed, `e`, `i`), the order of an epoch
//! of (seed, `e`): the number of workers, the cache and the timing change no bit.
//!
//! **Where this differs from torchvision, on purpose:** the EXIF orientation is applied, 16-bit gray is scaled to 8
//! bits instead of saturated, hidden names are skipped, and one class map made from the training split serves both.
//!
//! This crate knows no model, and it never hashes.

pub mod contact_sheet;
pub mod decode;
mod error;
pub mod image_folder;
pub mod inspect;
mod layout_hint;
mod loader;
mod rng;
pub mod sample;
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
