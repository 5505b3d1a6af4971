//! The plots of a run, drawn with a bundled font: curves, confusion matrix and a training batch.

pub mod batch;
pub mod confusion_matrix;
pub mod curves;
pub mod heat_map;

use std::sync::Once;

use anyhow::{Context, anyhow};
use image::{DynamicImage, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// A plotters canvas over RGB8 pixels in memory.
type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Name under which the bundled font is registered with plotters.
const FONT: &str = "waggle";
const INK: RGBColor = RGBColor(38, 38, 38);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const GRAY: RGBColor = RGBColor(110, 110, 110);

/// Scale at which plots are drawn before they are averaged down, because plotters draws lines
/// without antialiasing.
const SCALE: u32 = 2;

/// Converts a length from pixels of the finished image to pixels of the canvas.
const fn px(length: u32) -> u32 {
    SCALE * length
}

/// Draws on a white canvas, averages it down to `width` × `height` pixels and encodes it as PNG.
fn smooth_png(
    width: u32,
    height: u32,
    draw: impl FnOnce(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    static FONT_REGISTERED: Once = Once::new();
    FONT_REGISTERED.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        debug_assert!(registered.is_ok(), "the bundled font is valid");
    });
    let (scaled_width, scaled_height) = (px(width), px(height));
    let mut pixels = vec![255; (scaled_width * scaled_height * 3) as usize];
    {
        let size = (scaled_width, scaled_height);
        let canvas = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        draw(&canvas)?;
        canvas.present().map_err(plot_error)?;
    }
    let scaled = RgbImage::from_raw(scaled_width, scaled_height, pixels)
        .context("the canvas has the wrong size")?;
    // Use the method of `DynamicImage`, which is optimized even in debug builds, unlike the generic
    // `imageops::thumbnail`.
    let plot = DynamicImage::ImageRgb8(scaled).thumbnail_exact(width, height);
    encode_png(&plot.into_rgb8())
}

/// Encodes an image as PNG.
///
/// # Errors
///
/// Returns an error if the encoder fails.
pub fn encode_png(image: &RgbImage) -> anyhow::Result<Vec<u8>> {
    use image::ImageEncoder;
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(
            image,
            image.width(),
            image.height(),
            image::ExtendedColorType::Rgb8,
        )
        .context("cannot encode a plot as PNG")?;
    Ok(bytes)
}

/// Converts a plotters error, which is not `Send + Sync`, to an error with the same message.
fn plot_error<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot draw a plot: {error}")
}
