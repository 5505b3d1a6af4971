//! Lists a folder of images and loads them in batches, using only this crate.
//!
//! ```text
//! cargo run --release -p dataset --example batch_folder -- DIR [SHEET.png]
//! ```
//!
//! `DIR` contains `train/CLASS/…` and `val/CLASS/…`. If `SHEET.png` is given, the example writes
//! the first batch to it as a contact sheet. Without arguments, the example draws a data set in the
//! folder `batch_folder` of the system's temporary directory.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dataset::contact_sheet::titled;
use dataset::image::{Rgb, RgbImage};
use dataset::{ImageFolder, Loader, LoaderConfig, Normalize};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let root = match arguments.next() {
        Some(root) => root,
        None => {
            let folder = std::env::temp_dir().join("batch_folder");
            draw(&folder)?;
            folder
        }
    };

    let (train, val) = ImageFolder::train_and_val(&root)?;
    for (name, split) in [("train", &train), ("val", &val)] {
        println!("{name}: {} images", split.len());
        for (class, count) in split.classes().iter().zip(split.counts()) {
            println!("  {count:5} {class}");
        }
    }

    let loader = Loader::new(train.samples(), LoaderConfig::train(224))?;
    loader.preload()?;
    for epoch in 0..2 {
        let start = Instant::now();
        let mut images = 0;
        for batch in loader.epoch(epoch) {
            images += batch?.indices.len();
        }
        let speed = images as f64 / start.elapsed().as_secs_f64();
        println!(
            "epoch {epoch}: {} batches, {speed:.0} images/s",
            loader.batches()
        );
    }

    if let Some(file) = arguments.next() {
        let batch = loader
            .epoch(0)
            .next()
            .ok_or("the training split is empty")??;
        let (_, _, height, width) = batch.images.dims4()?;
        let mut images = Vec::new();
        let mut titles = Vec::new();
        for (image, label) in batch
            .images
            .chunk(batch.indices.len(), 0)?
            .iter()
            .zip(batch.labels.to_vec1::<u32>()?)
        {
            let values = image.flatten_all()?.to_vec1()?;
            images.push(Normalize::IMAGENET.denormalize(&values, width as u32, height as u32)?);
            titles.push(train.classes()[label as usize].as_str());
        }
        titled(&images, &titles, 8)?.save(&file)?;
        println!("wrote the first batch to {}", file.display());
    }
    Ok(())
}

/// Draws a data set of two classes: vertical and horizontal stripes.
fn draw(root: &Path) -> Result<(), Box<dyn Error>> {
    for (split, count) in [("train", 24), ("val", 8)] {
        for (class, vertical) in [("vertical", true), ("horizontal", false)] {
            let folder = root.join(split).join(class);
            std::fs::create_dir_all(&folder)?;
            for number in 0..count {
                let image = RgbImage::from_fn(160, 120, |x, y| {
                    let position = if vertical { x } else { y };
                    let level = if (position + number) / 8 % 2 == 0 {
                        230
                    } else {
                        40
                    };
                    Rgb([level, level, (number * 9) as u8])
                });
                image.save(folder.join(format!("{number:02}.png")))?;
            }
        }
    }
    Ok(())
}
