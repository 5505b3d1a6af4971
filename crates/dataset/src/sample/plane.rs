//! Points of the plane and poses in it, computed with +, −, ×, ÷ and square roots alone.
//!
//! IEEE 754 fixes the result of those five to the last bit; the sine of a platform's library it does not.
//! So a picture has the same bits on every machine.

use std::ops::{Add, Mul, Sub};

/// A point or a direction; y grows downwards, as in pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f32,
    pub y: f32,
}

/// Short for a [`Point`].
pub(super) const fn at(x: f32, y: f32) -> Point {
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

    /// A quarter turn from x to y.
    pub fn across(self) -> Self {
        at(-self.y, self.x)
    }

    /// The point between this one (0) and `other` (1).
    pub fn towards(self, other: Self, part: f32) -> Self {
        self + (other - self) * part
    }
}

/// The direction `turns` full turns away from x towards y; its components are the cosine and the sine.
pub(super) fn direction(turns: f32) -> Point {
    // The nearest quarter and what is left of it, in radians: at most π/4, where six terms of the series
    // are exact to the last bit of an f32.
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

/// 0 below 0, 1 above 1, and a smooth step between.
pub(super) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// The bell curve's stand-in: 1 at 0, a quarter at 1.
pub(super) fn bell(t: f32) -> f32 {
    let d = 1.0 + t * t;
    1.0 / (d * d)
}

/// Where a drawing lies on the canvas: its own coordinates to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pose {
    origin: Point,
    /// What the drawing's unit along x and y is in pixels.
    x: Point,
    y: Point,
}

impl Pose {
    /// The drawing's origin at `origin`, its x axis turned by `turns`, its unit `unit` pixels long.
    pub fn new(origin: Point, turns: f32, unit: f32) -> Self {
        let x = direction(turns) * unit;
        Self {
            origin,
            x,
            y: x.across(),
        }
    }

    /// The same drawing seen at a slant: its y axis becomes `factor` as long; mirrored when negative.
    pub fn squashed(self, factor: f32) -> Self {
        Self {
            y: self.y * factor,
            ..self
        }
    }

    /// A drawing inside this one.
    pub fn inner(&self, origin: Point, turns: f32, unit: f32) -> Self {
        let axis = direction(turns) * unit;
        Self {
            origin: self.place(origin),
            x: self.vector(axis),
            y: self.vector(axis.across()),
        }
    }

    /// The drawing moved by `pixels`.
    pub fn moved(self, pixels: Point) -> Self {
        Self {
            origin: self.origin + pixels,
            ..self
        }
    }

    fn vector(&self, v: Point) -> Point {
        self.x * v.x + self.y * v.y
    }

    /// Own coordinates to pixels.
    pub fn place(&self, p: Point) -> Point {
        self.origin + self.vector(p)
    }

    fn area(&self) -> f32 {
        self.x.x * self.y.y - self.x.y * self.y.x
    }

    /// Pixels to own coordinates.
    pub fn find(&self, pixel: Point) -> Point {
        let d = pixel - self.origin;
        let area = self.area();
        at(
            (d.x * self.y.y - d.y * self.y.x) / area,
            (self.x.x * d.y - self.x.y * d.x) / area,
        )
    }

    /// Pixels in one unit, on average over directions.
    pub fn scale(&self) -> f32 {
        self.area().abs().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_cosine_and_sine() {
        for i in -400..400 {
            let turns = i as f32 / 97.0;
            let angle = f64::from(turns) * std::f64::consts::TAU;
            let p = direction(turns);
            assert!((f64::from(p.x) - angle.cos()).abs() < 1e-7, "{turns}");
            assert!((f64::from(p.y) - angle.sin()).abs() < 1e-7, "{turns}");
        }
    }

    #[test]
    fn poses_find_what_they_place() {
        let outer = Pose::new(at(30.0, 20.0), 0.13, 40.0).squashed(-0.7);
        for pose in [outer, outer.inner(at(0.2, -0.4), 0.4, 0.5)] {
            let p = at(0.3, -0.8);
            let q = pose.find(pose.place(p));
            assert!((q - p).length() < 1e-5, "{q:?}");
        }
    }
}
