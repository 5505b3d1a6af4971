//! Objects and symbols of the pretraining task. Each drawing has a size of about one unit and is
//! centered at the origin.

use crate::body::{Coat, part, shadow, thin};
use crate::canvas::{Canvas, lit};
use crate::plane::{Point, Pose, at, direction};
use crate::shape::{Shape, blade, disc, limb, profile};
use crate::stream::Stream;

/// Fills `shape` and draws its shadow.
fn solid(canvas: &mut Canvas, pose: &Pose, coat: &Coat, shape: &Shape, depth: f32) {
    shadow(canvas, pose, coat, shape);
    part(canvas, pose, shape, depth, 0.2, |_| coat.main);
}

/// Points on a circular arc from `start` to `end`, in turns.
fn arc(radius: f32, start: f32, end: f32) -> Vec<Point> {
    (0..=28)
        .map(|i| direction(start + (end - start) * i as f32 / 28.0) * radius)
        .collect()
}

/// A feather with a shaft and slanted barbs.
pub(crate) fn feather(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let width = stream.between(0.1, 0.16);
    let vane = blade(at(-0.3, 0.0), at(0.55, 0.0), width, profile::oval);
    shadow(canvas, pose, &coat, &vane);
    let (bars, contrast) = (stream.between(3.0, 7.0), coat.contrast());
    part(canvas, pose, &vane, width, 0.0, |p| {
        let (band, barb) = ((p.x - p.y.abs()) * bars, (p.x - 1.2 * p.y.abs()) * 30.0);
        let color = if band - band.floor() < 0.4 {
            contrast
        } else {
            coat.main
        };
        lit(color, if barb - barb.floor() < 0.3 { 0.75 } else { 1.0 })
    });
    thin(
        canvas,
        pose,
        &coat,
        &[at(-0.55, 0.0), at(0.5, 0.0)],
        0.018,
        0.008,
    );
}

/// A closed ring, shaded to look round.
pub(crate) fn ring(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let thick = stream.between(0.04, 0.1);
    solid(
        canvas,
        pose,
        &coat,
        &limb(&arc(0.4, 0.0, 1.0), thick, thick),
        thick,
    );
}

/// A rope coiled into a spiral of 2 to 3.2 turns.
pub(crate) fn spiral(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let turns = stream.between(2.0, 3.2);
    let rope: Vec<_> = (0..72)
        .map(|i| i as f32 / 71.0)
        .map(|t| direction(t * turns) * (0.48 * (1.0 - 0.92 * t)))
        .collect();
    let thick = 0.11 / turns;
    solid(canvas, pose, &coat, &limb(&rope, thick, thick * 0.8), thick);
}

/// A star with 6 to 9 points.
pub(crate) fn star(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (points, inner) = (stream.count(6, 9), stream.between(0.22, 0.3));
    let outline = (0..2 * points)
        .map(|i| direction(i as f32 / (2 * points) as f32) * if i % 2 == 0 { 0.52 } else { inner })
        .collect();
    solid(canvas, pose, &coat, &Shape::Polygon(outline), 0.15);
}

/// An arrow with a shaft and a triangular head.
pub(crate) fn arrow(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (shaft, head) = (stream.between(0.04, 0.1), stream.between(0.18, 0.3));
    let neck = 0.5 - head;
    let outline = vec![
        at(0.5, 0.0),
        at(neck, head),
        at(neck, shaft),
        at(-0.5, shaft),
        at(-0.5, -shaft),
        at(neck, -shaft),
        at(neck, -head),
    ];
    solid(canvas, pose, &coat, &Shape::Polygon(outline), 0.1);
}

/// A key with a ring, a shaft and teeth.
pub(crate) fn key(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let bow = pose.inner(at(-0.32, 0.0), 0.0, 1.0);
    let thick = stream.between(0.035, 0.055);
    solid(
        canvas,
        &bow,
        &coat,
        &limb(&arc(0.16, 0.0, 1.0), thick, thick),
        thick,
    );
    solid(
        canvas,
        pose,
        &coat,
        &limb(&[at(-0.16, 0.0), at(0.5, 0.0)], thick, thick),
        thick,
    );
    for _ in 0..stream.count(2, 3) {
        let x = stream.between(0.2, 0.48);
        let tooth = limb(&[at(x, 0.0), at(x, stream.between(0.1, 0.2))], thick, thick);
        part(canvas, pose, &tooth, thick, 0.2, |_| coat.main);
    }
}

/// A wheel with spokes.
pub(crate) fn wheel(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (spokes, thick) = (stream.count(5, 10), stream.between(0.03, 0.055));
    solid(
        canvas,
        pose,
        &coat,
        &limb(&arc(0.45, 0.0, 1.0), thick, thick),
        thick,
    );
    for i in 0..spokes {
        let spoke = limb(
            &[at(0.0, 0.0), direction(i as f32 / spokes as f32) * 0.45],
            0.022,
            0.022,
        );
        part(canvas, pose, &spoke, 0.022, 0.0, |_| coat.second);
    }
    part(canvas, pose, &disc(at(0.0, 0.0), 0.1), 0.1, 0.3, |_| {
        coat.main
    });
}

/// A cross of two perpendicular bars.
pub(crate) fn cross(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let thick = stream.between(0.05, 0.1);
    for beam in [[at(-0.5, 0.0), at(0.5, 0.0)], [at(0.0, -0.4), at(0.0, 0.4)]] {
        let [a, b] = beam;
        let side = (b - a).rotated() * (thick / (b - a).length());
        solid(
            canvas,
            pose,
            &coat,
            &Shape::Polygon(vec![a + side, b + side, b - side, a - side]),
            thick,
        );
    }
}

/// A crescent moon.
pub(crate) fn crescent(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let hollow = stream.between(0.16, 0.3);
    let mut outline = arc(0.48, 0.15, 0.85);
    let (tip, other) = (outline[0], outline[outline.len() - 1]);
    // The inner edge is a flatter curve between the same tips.
    outline.extend((1..14).map(|i| {
        let t = i as f32 / 14.0;
        other.lerp(tip, t) + at(-hollow * 4.0 * t * (1.0 - t), 0.0)
    }));
    solid(canvas, pose, &coat, &Shape::Polygon(outline), 0.12);
}

/// Scissors with two crossed blades and two handles.
pub(crate) fn scissors(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let open = stream.between(0.02, 0.07);
    for side in [-1.0, 1.0] {
        let half = pose.inner(at(0.0, 0.0), open * side, 1.0);
        let steel = blade(at(-0.1, 0.0), at(0.55, 0.0), 0.05, profile::drop);
        shadow(canvas, &half, &coat, &steel);
        part(canvas, &half, &steel, 0.05, 0.5, |_| coat.second);
        let grip = half.inner(at(-0.32, -0.06 * side), 0.0, 1.0);
        solid(
            canvas,
            &grip,
            &coat,
            &limb(&arc(0.11, 0.0, 1.0), 0.035, 0.035),
            0.035,
        );
        part(
            canvas,
            &half,
            &limb(&[at(-0.2, -0.02 * side), at(0.0, 0.0)], 0.035, 0.03),
            0.03,
            0.0,
            |_| coat.main,
        );
    }
    part(canvas, pose, &disc(at(0.0, 0.0), 0.03), 0.03, 0.5, |_| {
        coat.main
    });
}
