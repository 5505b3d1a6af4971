//! The pictures of a run: curves and confusion matrix, drawn with a font that is part of the program.

pub mod batch;
pub mod confusion_matrix;
pub mod curves;

use std::sync::Once;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// What is drawn on, in pixels and RGB8 in memory.
type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// The font's name for plotters.
const FONT: &str = "waggle";
const INK: RGBColor = RGBColor(38, 38, 38);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// Draws on a white canvas and encodes it as PNG.
fn png(
    width: u32,
    height: u32,
    draw: impl FnOnce(&Canvas<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    static FONT_REGISTERED: Once = Once::new();
    FONT_REGISTERED.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        debug_assert!(registered.is_ok(), "the embedded font is valid");
    });
    let mut pixels = vec![255; (width * height * 3) as usize];
    {
        let canvas = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&canvas)?;
        canvas.present().map_err(drawing)?;
    }
    encode_png(width, height, &pixels)
}

/// RGB8 rows to PNG bytes.
///
/// # Errors
///
/// When `pixels` is not `width · height · 3` bytes long.
pub fn encode_png(width: u32, height: u32, pixels: &[u8]) -> anyhow::Result<Vec<u8>> {
    use image::ImageEncoder;
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, image::ExtendedColorType::Rgb8)
        .context("cannot encode a picture as PNG")?;
    Ok(bytes)
}

/// plotters' errors are neither `Send` nor `Sync`; their text is what matters.
fn drawing<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot draw a picture: {error}")
}

/// Text cut to at most `most` characters, with an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}
