//! Folders of pictures become batches, with torchvision's semantics.

pub mod contact_sheet;
pub mod decode;
mod error;
pub mod image_folder;
mod loader;
mod random;
pub mod sample;
pub mod transform;
mod verify;

pub use decode::{DecodeOptions, Decoder, decode};
pub use error::{Error, Result};
pub use image_folder::{ImageFolder, Sample};
pub use loader::{Batch, Epoch, Loader, LoaderConfig};
pub use transform::{Normalize, Transform};
pub use verify::verify;
