//! Converts the samples of a TIFF image to RGB.

use image::RgbImage;

use super::chunk::{Chunk, sample};
use super::{Header, SampleFormat, tag};
use crate::decode::Channels;
use crate::decode::levels::cmyk_to_rgb;
use crate::error::Result;

/// The meaning of the samples of a pixel. Samples after those of the color are alpha, or unused.
pub(super) struct Color {
    space: Space,
    /// Index of a sample by which the color is multiplied.
    associated_alpha: Option<usize>,
}

enum Space {
    Gray { is_inverted: bool },
    Rgb,
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr(Box<YCbCr>),
}

impl Color {
    pub(super) fn new(header: &Header) -> Result<Self> {
        use SampleFormat::{Float, Signed, Unsigned};
        let photometric = header.integer(tag::PHOTOMETRIC, 0)?;
        let (space, samples) = match photometric {
            0 | 1 => (
                Space::Gray {
                    is_inverted: photometric == 0 && header.format == Unsigned,
                },
                1,
            ),
            2 => (Space::Rgb, 3),
            3 => (Space::Palette(palette(header)?), 1),
            5 => (Space::Cmyk, 4),
            6 => (Space::YCbCr(Box::new(YCbCr::new(header)?)), 3),
            8..=10 => return Err(header.unsupported("Lab color")),
            32803 | 34892 => return Err(header.unsupported("raw sensor data")),
            other => return Err(header.unsupported(&format!("photometric interpretation {other}"))),
        };
        if header.samples < samples {
            return Err(header.damaged("a pixel has too few samples for its color"));
        }
        let has_extra = header.samples > samples;
        let is_supported = match (&space, header.format, header.bits) {
            (Space::Gray { .. }, Unsigned, 1 | 2 | 4 | 12) => !has_extra,
            (Space::Gray { is_inverted }, Unsigned, 32) => !has_extra && !is_inverted,
            (Space::Gray { .. }, Signed, 8 | 16 | 32) => !has_extra && photometric == 1,
            (Space::Gray { .. }, Float, 32) => !has_extra,
            (Space::Palette(_), Unsigned, 1 | 2 | 4) => !has_extra,
            (Space::Palette(_) | Space::YCbCr(_), Unsigned, 8) => true,
            (Space::Gray { .. } | Space::Rgb | Space::Cmyk, Unsigned, 8 | 16) => true,
            (Space::Rgb, Float, 32) => true,
            _ => false,
        };
        if !is_supported {
            let (bits, format) = (header.bits, header.format);
            let format = match format {
                Unsigned => "",
                Signed => " signed",
                Float => " floating-point",
            };
            let extra = if has_extra {
                " and additional samples"
            } else {
                ""
            };
            return Err(header.unsupported(&format!(
                "{}{format} samples of {bits} bits{extra}",
                space.name()
            )));
        }
        let is_associated = has_extra
            && header.directory.number(tag::EXTRA_SAMPLES) == Some(1.0)
            && matches!(space, Space::Gray { .. } | Space::Rgb)
            && header.format == Unsigned;
        Ok(Self {
            space,
            associated_alpha: is_associated.then_some(samples),
        })
    }

    /// The channels of the image as stored.
    pub(super) fn channels(&self, header: &Header) -> Channels {
        match (&self.space, header.samples) {
            (Space::Gray { .. }, 1) => Channels::Gray,
            (Space::Gray { .. }, _) => Channels::GrayAlpha,
            (Space::Rgb, 4..) => Channels::RgbAlpha,
            (Space::Cmyk, _) => Channels::Cmyk,
            _ => Channels::Rgb,
        }
    }

    /// Converts the pixels of a row of a chunk to RGB in `out`.
    pub(super) fn convert(&self, header: &Header, chunk: &Chunk, row: usize, out: &mut [u8]) {
        let planes = match chunk {
            Chunk::Rgb(image) => return self.copy(image, row, out),
            Chunk::Samples(planes) => planes,
        };
        let in_chunk = header.samples_in_chunk();
        let rows: Vec<&[u8]> = planes.iter().map(|plane| plane.row(row)).collect();
        if let (Space::Rgb, 8, 3, None) =
            (&self.space, header.bits, in_chunk, self.associated_alpha)
        {
            return out.copy_from_slice(&rows[0][..out.len()]);
        }
        let raw = |x: usize, channel: usize| {
            let (plane, index) = if header.is_planar {
                (channel, x)
            } else {
                (0, x * in_chunk + channel)
            };
            sample(rows[plane], index, header.bits, header.directory.order)
        };
        let level = |x, channel| to_level(raw(x, channel), header.bits, header.format);
        for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
            let rgb = match &self.space {
                Space::Gray { is_inverted } => {
                    let gray = level(x, 0);
                    [if *is_inverted { 255 - gray } else { gray }; 3]
                }
                Space::Rgb if header.format == SampleFormat::Float => [0, 1, 2].map(|channel| {
                    (f32::from_bits(raw(x, channel)).clamp(0.0, 1.0) * 255.0).round() as u8
                }),
                Space::Rgb => [0, 1, 2].map(|channel| level(x, channel)),
                Space::Palette(colors) => colors[raw(x, 0) as usize],
                Space::Cmyk => cmyk_to_rgb([0, 1, 2, 3].map(|channel| level(x, channel))),
                Space::YCbCr(tables) => tables.to_rgb([0, 1, 2].map(|channel| level(x, channel))),
            };
            pixel.copy_from_slice(&match self.associated_alpha {
                Some(alpha) => unmultiply(rgb, level(x, alpha)),
                None => rgb,
            });
        }
    }

    /// Copies pixels that a decoder of another format has converted.
    fn copy(&self, image: &RgbImage, row: usize, out: &mut [u8]) {
        let start = row * 3 * image.width() as usize;
        out.copy_from_slice(&image.as_raw()[start..start + out.len()]);
        if let Space::Gray { is_inverted: true } = self.space {
            out.iter_mut().for_each(|value| *value = 255 - *value);
        }
    }
}

impl Space {
    fn name(&self) -> &'static str {
        match self {
            Self::Gray { .. } => "gray",
            Self::Rgb => "RGB",
            Self::Palette(_) => "a palette and",
            Self::Cmyk => "CMYK",
            Self::YCbCr(_) => "YCbCr",
        }
    }
}

/// Reads the colors of a palette. Their high byte counts.
fn palette(header: &Header) -> Result<Vec<[u8; 3]>> {
    let size = 1 << header.bits.min(8);
    let values = header
        .directory
        .numbers(tag::PALETTE, 3 * size)
        .unwrap_or_default();
    if values.len() < 3 * size {
        return Err(header.damaged("its palette is missing or too short"));
    }
    let high = |value: f64| (value as u32 >> 8) as u8;
    Ok((0..size)
        .map(|i| [values[i], values[size + i], values[2 * size + i]].map(high))
        .collect())
}

/// Converts a sample to 8 bits. Integers of more than 16 bits, signed ones, and floating-point numbers
/// are clamped to 0..=255, as in Pillow.
fn to_level(value: u32, bits: u32, format: SampleFormat) -> u8 {
    match (format, bits) {
        (SampleFormat::Unsigned, 1) => value as u8 * 255,
        (SampleFormat::Unsigned, 2) => value as u8 * 85,
        (SampleFormat::Unsigned, 4) => value as u8 * 17,
        (SampleFormat::Unsigned | SampleFormat::Signed, 8) => value as u8,
        (SampleFormat::Unsigned, 12 | 16) => (value >> (bits - 8)) as u8,
        (SampleFormat::Signed, 16) => (value as i16).clamp(0, 255) as u8,
        // The cast saturates, and truncates fractions. NaN becomes 0.
        (SampleFormat::Float, _) => f32::from_bits(value) as u8,
        (SampleFormat::Unsigned | SampleFormat::Signed, _) => (value as i32).clamp(0, 255) as u8,
    }
}

fn unmultiply(rgb: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    rgb.map(|value| {
        (u32::from(value) * 255)
            .checked_div(alpha)
            .map_or(0, |value| value.min(255) as u8)
    })
}

/// Tables for the conversion of YCbCr to RGB in integers.
pub(super) struct YCbCr {
    luma: [i32; 256],
    red: [i32; 256],
    blue: [i32; 256],
    /// Contributions of Cb and Cr to green, in 65,536ths.
    green: [[i32; 256]; 2],
}

impl YCbCr {
    /// The tables of libtiff or, without compression, those of Pillow.
    fn new(header: &Header) -> Result<Self> {
        if header.integer(tag::COMPRESSION, 1)? == 1 {
            return Ok(Self::of_pillow());
        }
        let values = |tag, default: &[f32]| {
            let values = header
                .directory
                .numbers(tag, default.len())
                .unwrap_or_default();
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            if values.len() < default.len() {
                default.to_vec()
            } else {
                values
            }
        };
        let weights = values(tag::LUMA, &[0.299, 0.587, 0.114]);
        let range = values(
            tag::REFERENCE_BLACK_WHITE,
            &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0],
        );
        let is_valid = weights.iter().all(|weight| (1e-6..1.0).contains(weight))
            && range.iter().all(|value| value.is_finite());
        if !is_valid {
            return Err(header.damaged("its coefficients of YCbCr are out of range"));
        }
        let fixed = |factor: f32| (factor.clamp(0.0, 2.0) * 65536.0 + 0.5) as i32;
        let [from_red, from_blue] = [2.0 - 2.0 * weights[0], 2.0 - 2.0 * weights[2]];
        let (red, blue) = (fixed(from_red), fixed(from_blue));
        let green_red = fixed(weights[0] * from_red / weights[1]);
        let green_blue = fixed(weights[2] * from_blue / weights[1]);
        let scale = |code: f32, black: f32, white: f32, to: f32| {
            let span = if white == black { 1.0 } else { white - black };
            ((code - black) * to / span).clamp(-4096.0, 4096.0) as i32
        };
        let chroma = |index: usize, black: usize| {
            scale(
                index as f32 - 128.0,
                range[black] - 128.0,
                range[black + 1] - 128.0,
                127.0,
            )
        };
        let table = |value: &dyn Fn(usize) -> i32| std::array::from_fn(value);
        Ok(Self {
            luma: table(&|i| scale(i as f32, range[0], range[1], 255.0)),
            red: table(&|i| (red * chroma(i, 4) + 32768) >> 16),
            blue: table(&|i| (blue * chroma(i, 2) + 32768) >> 16),
            green: [
                table(&|i| -green_blue * chroma(i, 2) + 32768),
                table(&|i| -green_red * chroma(i, 4)),
            ],
        })
    }

    fn of_pillow() -> Self {
        let table = |factor: f64| {
            std::array::from_fn(|i| (factor * 64.0 * (i as f64 - 128.0) + 0.5) as i32)
        };
        Self {
            luma: std::array::from_fn(|i| i as i32),
            red: table(1.402).map(|value| value >> 6),
            blue: table(1.772).map(|value| value >> 6),
            green: [-0.34414, -0.71414].map(|factor| table(factor).map(|value| value << 10)),
        }
    }

    fn to_rgb(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let (y, cb, cr) = (self.luma[usize::from(y)], usize::from(cb), usize::from(cr));
        let green = (self.green[0][cb] + self.green[1][cr]) >> 16;
        [y + self.red[cr], y + green, y + self.blue[cb]].map(|value| value.clamp(0, 255) as u8)
    }
}
