//! Points and poses in the plane, computed only with +, −, ×, ÷, square roots and rounding.
//!
//! IEEE 754 defines the results of these operations exactly, but not those of sine and cosine in a
//! system's math library. Images are therefore identical on every machine.

use std::ops::{Add, Mul, Sub};

/// A point or a vector. The y axis points down, as in images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub x: f32,
    pub y: f32,
}

/// The point or vector (`x`, `y`).
pub(crate) const fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

impl Add for Point {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        at(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        at(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Point {
    type Output = Self;
    fn mul(self, factor: f32) -> Self {
        at(self.x * factor, self.y * factor)
    }
}

impl Point {
    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// The vector rotated by a quarter turn, from x to y.
    pub fn rotated(self) -> Self {
        at(-self.y, self.x)
    }

    /// Interpolates from this point (`part` is 0) to `other` (`part` is 1).
    pub fn lerp(self, other: Self, part: f32) -> Self {
        self + (other - self) * part
    }
}

/// The unit vector at an angle of `turns` full turns, from x to y: its components are the cosine
/// and the sine.
pub(crate) fn direction(turns: f32) -> Point {
    // The angle is reduced to at most π/4 by quarter turns. In that range, seven terms of the
    // Taylor series are more precise than an f32.
    let turns = f64::from(turns);
    let quarter = (turns * 4.0).round();
    let angle = (turns - quarter / 4.0) * std::f64::consts::TAU;
    let square = angle * angle;
    let series = |start: f64, mut n: f64| {
        let (mut sum, mut term) = (start, start);
        for _ in 0..6 {
            term *= -square / ((n + 1.0) * (n + 2.0));
            n += 2.0;
            sum += term;
        }
        sum as f32
    };
    let (cos, sin) = (series(1.0, 0.0), series(angle, 1.0));
    match quarter.rem_euclid(4.0) as u8 {
        0 => at(cos, sin),
        1 => at(-sin, cos),
        2 => at(-cos, -sin),
        _ => at(sin, -cos),
    }
}

/// The smoothstep function: 0 for t ≤ 0, 1 for t ≥ 1, and 3t² − 2t³ in between.
pub(crate) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bell-shaped curve, 1 / (1 + t²)²: 1 at 0 and 1/4 at 1.
pub(crate) fn bell(t: f32) -> f32 {
    let d = 1.0 + t * t;
    1.0 / (d * d)
}

/// An affine map from the local coordinates of a drawing to pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    origin: Point,
    /// The local unit vectors `x` and `y`, in pixels.
    x: Point,
    y: Point,
}

impl Pose {
    /// Maps the local origin to `origin`, rotates by `turns`, and scales by `unit` pixels.
    pub fn new(origin: Point, turns: f32, unit: f32) -> Self {
        let x = direction(turns) * unit;
        Self {
            origin,
            x,
            y: x.rotated(),
        }
    }

    /// Scales the y axis by `factor`, as if seen at a slant. A negative factor mirrors the drawing.
    pub fn squashed(self, factor: f32) -> Self {
        Self {
            y: self.y * factor,
            ..self
        }
    }

    /// The pose of a part of the drawing. `origin` and `unit` are in the local coordinates of
    /// `self`.
    pub fn inner(&self, origin: Point, turns: f32, unit: f32) -> Self {
        let axis = direction(turns) * unit;
        Self {
            origin: self.to_pixels(origin),
            x: self.vector(axis),
            y: self.vector(axis.rotated()),
        }
    }

    /// Translates by `pixels`.
    pub fn moved(self, pixels: Point) -> Self {
        Self {
            origin: self.origin + pixels,
            ..self
        }
    }

    fn vector(&self, v: Point) -> Point {
        self.x * v.x + self.y * v.y
    }

    /// Converts local coordinates to pixels.
    pub fn to_pixels(self, p: Point) -> Point {
        self.origin + self.vector(p)
    }

    /// Signed area of the local unit square, in square pixels.
    fn area(&self) -> f32 {
        self.x.x * self.y.y - self.x.y * self.y.x
    }

    /// Converts pixels to local coordinates.
    pub fn to_local(self, pixel: Point) -> Point {
        let d = pixel - self.origin;
        let area = self.area();
        at(
            (d.x * self.y.y - d.y * self.y.x) / area,
            (self.x.x * d.y - self.x.y * d.x) / area,
        )
    }

    /// Pixels per local unit: the geometric mean over both axes.
    pub fn scale(&self) -> f32 {
        self.area().abs().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_matches_cosine_and_sine() {
        for i in -400..400 {
            let turns = i as f32 / 97.0;
            let angle = f64::from(turns) * std::f64::consts::TAU;
            let p = direction(turns);
            assert!((f64::from(p.x) - angle.cos()).abs() < 1e-7, "{turns}");
            assert!((f64::from(p.y) - angle.sin()).abs() < 1e-7, "{turns}");
        }
    }

    #[test]
    fn to_local_inverts_to_pixels() {
        let outer = Pose::new(at(30.0, 20.0), 0.13, 40.0).squashed(-0.7);
        for pose in [outer, outer.inner(at(0.2, -0.4), 0.4, 0.5)] {
            let p = at(0.3, -0.8);
            let q = pose.to_local(pose.to_pixels(p));
            assert!((q - p).length() < 1e-5, "{q:?}");
        }
    }
}
