//! A small software rasterizer. It fills shapes and uses their signed distance for anti-aliasing.

use image::RgbImage;

use crate::plane::{Point, Pose, at, smooth};
use crate::shape::Shape;
use crate::stream::Stream;

/// Side in pixels of the square tiles. [`Canvas::fill`] skips tiles outside of the shape if
/// [`Shape::is_exact`] returns true.
const TILE: usize = 8;

/// Minimum absolute value of the factor passed to [`Pose::squashed`].
pub(crate) const MIN_SLANT: f32 = 0.75;

/// Lower bound of a pose's scale in any direction, relative to its mean scale: slant / √slant for
/// [`MIN_SLANT`].
const MIN_STRETCH: f32 = 0.86;

/// Red, green and blue, from 0 to 1.
pub(crate) type Color = [f32; 3];

/// Interpolates from `a` to `b`: `a` if `part` is 0 and `b` if it is 1.
pub(crate) fn mix(a: Color, b: Color, part: f32) -> Color {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * part)
}

/// Multiplies a color by a brightness `factor`.
pub(crate) fn lit(color: Color, factor: f32) -> Color {
    color.map(|c| c * factor)
}

/// A point to paint, passed to the `paint` function of [`Canvas::fill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// Position in the drawing's coordinates.
    pub at: Point,
    /// Distance to the outline in the drawing's units, 0 outside of the shape.
    pub depth: f32,
}

/// An image being drawn.
#[derive(Clone)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// Creates an image. `color` receives the center of each pixel.
    pub fn new(width: usize, height: usize, color: impl Fn(Point) -> Color) -> Self {
        let pixels = (0..width * height)
            .map(|i| color(at((i % width) as f32 + 0.5, (i / width) as f32 + 0.5)))
            .collect();
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> Point {
        at(self.width as f32, self.height as f32)
    }

    /// The smaller of width and height, in pixels.
    pub fn side(&self) -> f32 {
        self.width.min(self.height) as f32
    }

    /// Fills `shape` with `paint` at opacity `alpha`. The edge is blurred over `edge` pixels; 1 is
    /// a sharp edge.
    pub fn fill(
        &mut self,
        pose: &Pose,
        shape: &Shape,
        edge: f32,
        alpha: f32,
        paint: impl Fn(Spot) -> Color,
    ) {
        let scale = pose.scale();
        let (low, high) = shape.bounds();
        let corners =
            [low, at(high.x, low.y), high, at(low.x, high.y)].map(|corner| pose.to_pixels(corner));
        // The range is clamped to the image, and is empty if the shape is outside of it.
        let range = |values: [f32; 4], size: usize| {
            let min = values.into_iter().fold(f32::INFINITY, f32::min) - edge;
            let max = values.into_iter().fold(f32::NEG_INFINITY, f32::max) + edge;
            (min.max(0.0) as usize).min(size)
                ..(max.max(-1.0) + 1.0).max(0.0).min(size as f32) as usize
        };
        let columns = range(corners.map(|c| c.x), self.width);
        let rows = range(corners.map(|c| c.y), self.height);
        for top in rows.clone().step_by(TILE) {
            for left in columns.clone().step_by(TILE) {
                if shape.is_exact() {
                    // Skip empty tiles. In the bounding box of a thin diagonal line, most tiles are
                    // empty.
                    let middle = at(left as f32, top as f32) + at(0.5, 0.5) * TILE as f32;
                    let clear = shape.distance(pose.to_local(middle)) * scale * MIN_STRETCH;
                    if clear > 0.75 * TILE as f32 + edge {
                        continue;
                    }
                }
                for y in top..(top + TILE).min(rows.end) {
                    for x in left..(left + TILE).min(columns.end) {
                        self.fill_pixel(x, y, pose, shape, scale / edge, alpha, edge > 1.5, &paint);
                    }
                }
            }
        }
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "inner loop of `fill`")]
    fn fill_pixel(
        &mut self,
        x: usize,
        y: usize,
        pose: &Pose,
        shape: &Shape,
        slope: f32,
        alpha: f32,
        soft: bool,
        paint: &impl Fn(Spot) -> Color,
    ) {
        let place = pose.to_local(at(x as f32 + 0.5, y as f32 + 0.5));
        let distance = shape.distance(place);
        let inside = 0.5 - distance * slope;
        if inside <= 0.0 {
            return;
        }
        let cover = if soft {
            smooth(inside)
        } else {
            inside.min(1.0)
        };
        let pixel = &mut self.pixels[y * self.width + x];
        let spot = Spot {
            at: place,
            depth: (-distance).max(0.0),
        };
        *pixel = mix(*pixel, paint(spot), alpha * cover);
    }

    /// Replaces the color of each pixel. `color` receives the center and the current color.
    pub fn change(&mut self, color: impl Fn(Point, Color) -> Color) {
        let width = self.width;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = color(
                at((i % width) as f32 + 0.5, (i / width) as f32 + 0.5),
                *pixel,
            );
        }
    }

    /// Blurs `times` times with the kernel (s, 1 − 2s, s) in both directions. `s` is at most 1/3.
    pub fn blur(&mut self, s: f32, times: usize) {
        for _ in 0..times {
            for (count, length, stride, step) in [
                (self.height, self.width, self.width, 1),
                (self.width, self.height, 1, self.width),
            ] {
                let mut line = vec![[0.0; 3]; length];
                for start in (0..count).map(|i| i * stride) {
                    for (i, pixel) in line.iter_mut().enumerate() {
                        *pixel = self.pixels[start + i * step];
                    }
                    for i in 0..length {
                        let (before, here, after) = (
                            line[i.saturating_sub(1)],
                            line[i],
                            line[(i + 1).min(length - 1)],
                        );
                        self.pixels[start + i * step] = [0, 1, 2]
                            .map(|c| here[c] * (1.0 - 2.0 * s) + (before[c] + after[c]) * s);
                    }
                }
            }
        }
    }

    /// Converts to 8 bits per channel and adds sensor noise: up to `noise` shared by the channels
    /// of a pixel, and up to half of that per channel. 1 is the full value range.
    pub fn to_image(&self, stream: &mut Stream, noise: f32) -> RgbImage {
        let mut bytes = Vec::with_capacity(self.pixels.len() * 3);
        for pixel in &self.pixels {
            let common = stream.around(0.0, noise);
            for channel in pixel {
                let value = channel + common + stream.around(0.0, noise * 0.5);
                bytes.push((value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
            }
        }
        RgbImage::from_raw(self.width as u32, self.height as u32, bytes)
            .expect("the buffer has three bytes for each pixel")
    }
}
