//! A small software rasteriser: shapes filled with any paint, anti-aliased by their distance.

use image::RgbImage;

use super::plane::{Point, Pose, at, smooth};
use super::shape::Shape;
use super::stream::Stream;

/// Side of the squares that [`Canvas::fill`] looks at before it looks at pixels.
const TILE: usize = 8;

/// How much a subject may be foreshortened at most.
pub(super) const LEAST_SLANT: f32 = 0.75;

/// No pose shortens a distance to less than this part of its mean scale: slant / √slant for the least slant.
const LEAST_STRETCH: f32 = 0.86;

/// Red, green, blue; 0 is black, 1 the brightest.
pub(super) type Colour = [f32; 3];

/// `a` where `part` is 0, `b` where it is 1.
pub(super) fn mix(a: Colour, b: Colour, part: f32) -> Colour {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * part)
}

/// Brighter or darker.
pub(super) fn lit(colour: Colour, factor: f32) -> Colour {
    colour.map(|c| c * factor)
}

/// What a paint may depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The place in the drawing's own coordinates.
    pub at: Point,
    /// How deep inside the shape it is, in the drawing's units.
    pub depth: f32,
}

/// A picture in the making.
#[derive(Clone)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A picture of `colour(pixel centre)`.
    pub fn new(width: usize, height: usize, colour: impl Fn(Point) -> Colour) -> Self {
        let pixels = (0..width * height)
            .map(|i| colour(at((i % width) as f32 + 0.5, (i / width) as f32 + 0.5)))
            .collect();
        Self {
            width,
            height,
            pixels,
        }
    }

    /// (width, height) in pixels.
    pub fn size(&self) -> Point {
        at(self.width as f32, self.height as f32)
    }

    /// The shorter side.
    pub fn side(&self) -> f32 {
        self.width.min(self.height) as f32
    }

    /// Fills `shape` with `paint` at opacity `alpha`; its edge is `edge` pixels wide, 1 for a sharp one.
    pub fn fill(
        &mut self,
        pose: &Pose,
        shape: &Shape,
        edge: f32,
        alpha: f32,
        paint: impl Fn(Spot) -> Colour,
    ) {
        let scale = pose.scale();
        let (low, high) = shape.bounds();
        let corners =
            [low, at(high.x, low.y), high, at(low.x, high.y)].map(|corner| pose.place(corner));
        // Out of the picture on either side is a clamp away from an empty range.
        let range = |values: [f32; 4], size: usize| {
            let least = values.into_iter().fold(f32::INFINITY, f32::min) - edge;
            let most = values.into_iter().fold(f32::NEG_INFINITY, f32::max) + edge;
            (least.max(0.0) as usize).min(size)
                ..(most.max(-1.0) + 1.0).max(0.0).min(size as f32) as usize
        };
        let columns = range(corners.map(|c| c.x), self.width);
        let rows = range(corners.map(|c| c.y), self.height);
        for top in rows.clone().step_by(TILE) {
            for left in columns.clone().step_by(TILE) {
                if shape.is_exact() {
                    // Thin slanted limbs leave most of their box empty.
                    let middle = at(left as f32, top as f32) + at(0.5, 0.5) * TILE as f32;
                    let clear = shape.distance(pose.find(middle)) * scale * LEAST_STRETCH;
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
    #[expect(clippy::too_many_arguments, reason = "the inner part of `fill`")]
    fn fill_pixel(
        &mut self,
        x: usize,
        y: usize,
        pose: &Pose,
        shape: &Shape,
        slope: f32,
        alpha: f32,
        soft: bool,
        paint: &impl Fn(Spot) -> Colour,
    ) {
        let place = pose.find(at(x as f32 + 0.5, y as f32 + 0.5));
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

    /// Replaces every colour.
    pub fn change(&mut self, colour: impl Fn(Point, Colour) -> Colour) {
        let width = self.width;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = colour(
                at((i % width) as f32 + 0.5, (i / width) as f32 + 0.5),
                *pixel,
            );
        }
    }

    /// Blurs with the kernel (s, 1 − 2s, s), `times` times in both directions; s at most a third.
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

    /// The 8-bit picture, with noise of the sensor: uniform, at most `noise` of the range.
    pub fn develop(&self, stream: &mut Stream, noise: f32) -> RgbImage {
        let mut bytes = Vec::with_capacity(self.pixels.len() * 3);
        for pixel in &self.pixels {
            let common = stream.around(0.0, noise);
            for channel in pixel {
                let value = channel + common + stream.around(0.0, noise * 0.5);
                bytes.push((value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
            }
        }
        RgbImage::from_raw(self.width as u32, self.height as u32, bytes)
            .expect("there are three bytes a pixel")
    }
}
