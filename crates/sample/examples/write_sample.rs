//! Writes a small sample to a folder and draws an image in memory.
//!
//! ```text
//! cargo run --release -p sample --example write_sample -- [DIR]
//! ```
//!
//! The default of `DIR` is the folder `write_sample` in the system's temporary directory.

use std::path::PathBuf;

use sample::image::RgbImage;
use sample::{Counts, INSECTS, PRETRAINING, SEED, Split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.unwrap_or_else(|| std::env::temp_dir().join("write_sample"));
    // `sample::write` writes all 390 images.
    let counts = Counts { train: 4, val: 2 };
    sample::write_classes(&root, &INSECTS, SEED, counts)?;
    for class in &INSECTS {
        let folder = root.join("train").join(class.name());
        let files = std::fs::read_dir(&folder)?.count();
        println!("{}: {files} images", folder.display());
    }

    let image: RgbImage = PRETRAINING[0].image(SEED, Split::Train, 0);
    let (width, height) = image.dimensions();
    println!("{}: {width}x{height} pixels", PRETRAINING[0].name());
    Ok(())
}
