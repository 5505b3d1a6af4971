//! Shapes as signed distance functions: the distance to the outline, negative inside.
//!
//! Anti-aliasing, soft shadows and shading depend only on this distance. For ellipses and blades it
//! is a first-order approximation (the value of the implicit function divided by the length of its
//! gradient), which is exact at the outline.

use crate::plane::{Point, at};

/// Half the width of a [`Shape::Blade`] as a multiple of its `width`, as a function of the position
/// from 0 (start) to 1 (end).
pub(crate) type Profile = fn(f32) -> f32;

/// A filled shape.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// An ellipse. `axis` is the unit vector along the first radius.
    Ellipse {
        center: Point,
        axis: Point,
        radii: Point,
    },
    /// A polyline with round ends, whose radius changes from `first` to `last`.
    Limb {
        points: Vec<Point>,
        first: f32,
        last: f32,
    },
    /// A shape that is symmetric about the line from `start` to `end`, such as a leaf or wing.
    Blade {
        start: Point,
        end: Point,
        width: f32,
        profile: Profile,
    },
    /// A polygon with these vertices.
    Polygon(Vec<Point>),
}

pub(crate) fn disc(center: Point, radius: f32) -> Shape {
    ellipse(center, radius, radius)
}

pub(crate) fn ellipse(center: Point, rx: f32, ry: f32) -> Shape {
    Shape::Ellipse {
        center,
        axis: at(1.0, 0.0),
        radii: at(rx, ry),
    }
}

pub(crate) fn limb(points: &[Point], first: f32, last: f32) -> Shape {
    Shape::Limb {
        points: points.to_vec(),
        first,
        last,
    }
}

pub(crate) fn blade(start: Point, end: Point, width: f32, profile: Profile) -> Shape {
    Shape::Blade {
        start,
        end,
        width,
        profile,
    }
}

/// Profiles for [`Shape::Blade`].
pub(crate) mod profile {
    /// Round at both ends, like an ellipse.
    pub fn oval(t: f32) -> f32 {
        (4.0 * t * (1.0 - t)).max(0.0).sqrt()
    }

    /// Blunt at the start, widest near 1/3, and tapered toward the end.
    pub fn drop(t: f32) -> f32 {
        1.35 * (t * (1.0 - t) * (1.6 - t)).max(0.0).sqrt() * (1.2 - 0.35 * t)
    }

    /// Narrow at the start and wide at the end: a reversed [`drop`].
    pub fn paddle(t: f32) -> f32 {
        drop(1.0 - t)
    }

    /// Pointed at both ends.
    pub fn leaf(t: f32) -> f32 {
        4.0 * t * (1.0 - t)
    }
}

impl Shape {
    /// Whether [`Shape::distance`] is accurate far from the outline. The distance is exact for
    /// polygons and limbs of constant radius, and slightly too large for tapered limbs.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Limb { .. } | Self::Polygon(_))
    }

    /// Signed distance from `p` to the outline.
    pub fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipse {
                center,
                axis,
                radii,
            } => {
                let d = p - *center;
                let d = at(d.dot(*axis), d.dot(axis.rotated()));
                let (u, v) = (d.x / radii.x, d.y / radii.y);
                let value = at(u, v).length();
                let slope = at(u / radii.x, v / radii.y).length();
                if slope < 1e-6 {
                    -radii.x.min(radii.y)
                } else {
                    value * (value - 1.0) / slope
                }
            }
            Self::Limb {
                points,
                first,
                last,
            } => {
                let pieces = points.len().saturating_sub(1).max(1) as f32;
                let mut nearest = f32::INFINITY;
                for (i, ends) in points.windows(2).enumerate() {
                    let along = ends[1] - ends[0];
                    let t =
                        ((p - ends[0]).dot(along) / along.dot(along).max(1e-12)).clamp(0.0, 1.0);
                    let radius = first + (last - first) * ((i as f32 + t) / pieces);
                    nearest = nearest.min((p - ends[0] - along * t).length() - radius);
                }
                nearest
            }
            Self::Blade {
                start,
                end,
                width,
                profile,
            } => {
                let along = *end - *start;
                let length = along.length();
                let (d, axis) = (p - *start, along * (1.0 / length));
                let (u, v) = (d.dot(axis), d.dot(axis.rotated()).abs());
                let t = (u / length).clamp(0.0, 1.0);
                let beyond = (u - t * length).abs();
                let half = width * profile(t);
                if beyond > 0.0 {
                    return at(beyond, (v - half).max(0.0)).length();
                }
                let step = 0.02;
                let (before, after) = ((t - step).max(0.0), (t + step).min(1.0));
                let slope =
                    width * (profile(after) - profile(before)) / ((after - before) * length);
                (v - half) / (1.0 + slope * slope).sqrt()
            }
            Self::Polygon(points) => {
                let mut nearest = f32::INFINITY;
                let mut inside = false;
                for (i, &a) in points.iter().enumerate() {
                    let b = points[(i + 1) % points.len()];
                    let along = b - a;
                    let t = ((p - a).dot(along) / along.dot(along).max(1e-12)).clamp(0.0, 1.0);
                    nearest = nearest.min((p - a - along * t).length());
                    if (a.y > p.y) != (b.y > p.y) && p.x < a.x + (p.y - a.y) / (b.y - a.y) * along.x
                    {
                        inside = !inside;
                    }
                }
                if inside { -nearest } else { nearest }
            }
        }
    }

    /// The minimum and maximum coordinates of a box that contains the shape.
    pub fn bounds(&self) -> (Point, Point) {
        let (points, margin): (&[Point], f32) = match self {
            Self::Ellipse { center, radii, .. } => (&[*center], radii.x.max(radii.y)),
            Self::Limb {
                points,
                first,
                last,
            } => (points, first.max(*last)),
            Self::Blade {
                start, end, width, ..
            } => (&[*start, *end], width * 1.2),
            Self::Polygon(points) => (points, 0.0),
        };
        let (mut low, mut high) = (
            at(f32::INFINITY, f32::INFINITY),
            at(f32::NEG_INFINITY, f32::NEG_INFINITY),
        );
        for p in points {
            low = at(low.x.min(p.x - margin), low.y.min(p.y - margin));
            high = at(high.x.max(p.x + margin), high.y.max(p.y + margin));
        }
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_correct_near_the_outline() {
        let shapes = [
            (disc(at(1.0, 2.0), 3.0), at(4.0, 2.0), at(1.0, 0.0)),
            (
                ellipse(at(0.0, 0.0), 2.0, 1.0),
                at(0.0, -1.0),
                at(0.0, -1.0),
            ),
            (
                limb(&[at(0.0, 0.0), at(4.0, 0.0)], 1.0, 0.5),
                at(4.5, 0.0),
                at(1.0, 0.0),
            ),
            (
                blade(at(0.0, 0.0), at(4.0, 0.0), 1.0, profile::oval),
                at(2.0, 1.0),
                at(0.0, 1.0),
            ),
            (
                Shape::Polygon(vec![at(0.0, 0.0), at(2.0, 0.0), at(2.0, 2.0), at(0.0, 2.0)]),
                at(2.0, 1.0),
                at(1.0, 0.0),
            ),
        ];
        for (shape, edge, outward) in shapes {
            for step in [-0.1f32, 0.0, 0.1] {
                let distance = shape.distance(edge + outward * step);
                assert!(
                    (distance - step).abs() < 0.02,
                    "{shape:?}: {distance} for {step}"
                );
            }
            let (low, high) = shape.bounds();
            assert!(low.x <= edge.x && edge.x <= high.x && low.y <= edge.y && edge.y <= high.y);
        }
    }
}
