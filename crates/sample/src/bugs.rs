//! The insects of the pretraining task. Ants and bees are in `insects.rs`.
//!
//! Each animal faces +x, is about one unit long, and is centered at the origin.

use crate::body::{Coat, EYE, legs, part, shadow, thin, wings};
use crate::canvas::{Canvas, lit};
use crate::plane::{Pose, at};
use crate::shape::{Shape, blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::noise;

/// A beetle with wing cases that meet in a line, a neck shield and six legs.
pub(crate) fn beetle(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let width = stream.between(0.2, 0.27);
    let cases = ellipse(at(-0.12, 0.0), 0.33, width);
    let shield = ellipse(at(0.22, 0.0), 0.13, width * 0.8);
    let skull = ellipse(at(0.36, 0.0), 0.09, width * 0.5);
    shadow(canvas, pose, &coat, &cases);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.2, 0.12), (0.05, 0.25), (-0.1, 0.38)],
        0.5,
        0.026,
    );
    let horn = stream.between(0.1, 0.25);
    for side in [-1.0, 1.0] {
        let antenna = [
            at(0.4, 0.06 * side),
            at(0.45, 0.1 * side),
            at(0.45 + horn, 0.16 * side),
        ];
        thin(canvas, pose, &coat, &antenna, 0.014, 0.014);
    }
    part(canvas, pose, &skull, 0.1, 0.3, |_| coat.second);
    part(canvas, pose, &shield, 0.12, 0.5, |_| coat.second);
    let (grooves, seam) = (stream.pick(&[0.0, 0.0, 16.0, 24.0]), lit(coat.main, 0.35));
    part(canvas, pose, &cases, width, 0.7, |p| {
        let groove = p.y * grooves;
        if p.y.abs() < 0.012 || groove - groove.floor() > 0.8 {
            seam
        } else {
            coat.main
        }
    });
}

/// A ladybird with spots.
pub(crate) fn ladybird(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let dome = ellipse(at(-0.05, 0.0), 0.4, 0.36);
    let skull = ellipse(at(0.34, 0.0), 0.12, 0.2);
    shadow(canvas, pose, &coat, &dome);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.15, 0.15), (0.0, 0.25), (-0.15, 0.35)],
        0.62,
        0.03,
    );
    part(canvas, pose, &skull, 0.12, 0.3, |_| lit(coat.main, 0.25));
    part(canvas, pose, &dome, 0.36, 0.6, |_| coat.main);
    let spot = lit(coat.contrast(), 0.6);
    let (pairs, size) = (stream.count(2, 5), stream.between(0.04, 0.08));
    for i in 0..pairs {
        let (x, y) = (
            0.22 - 0.5 * i as f32 / pairs as f32,
            stream.between(0.09, 0.24),
        );
        for side in [-1.0, 1.0] {
            canvas.fill(pose, &disc(at(x, y * side), size), 1.0, 1.0, |_| spot);
        }
    }
}

/// A butterfly with four broad patterned wings and a thin body.
pub(crate) fn butterfly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (rim, pattern, key) = (
        lit(coat.main, 0.35),
        stream.between(4.0, 12.0),
        stream.bits(),
    );
    let (fore, hind) = (stream.between(0.48, 0.62), stream.between(0.36, 0.48));
    let open = stream.between(0.14, 0.2);
    for side in [-1.0, 1.0] {
        for (turn, length, wide) in [(0.5 - 0.5 * open, hind, 0.22), (open, fore, 0.26)] {
            let wing = pose.inner(at(0.02, 0.0), turn * side, 1.0);
            let shape = blade(at(0.0, 0.0), at(length, 0.0), wide, profile::paddle);
            shadow(canvas, &wing, &coat, &shape);
            let contrast = coat.contrast();
            canvas.fill(&wing, &shape, 1.0, 1.0, |spot| {
                let marked = noise(at(spot.at.x, spot.at.y.abs()) * pattern, key) > 0.55;
                match spot.depth {
                    depth if depth < 0.03 => rim,
                    _ if marked => contrast,
                    _ => coat.main,
                }
            });
        }
        let antenna = [
            at(0.25, 0.01 * side),
            at(0.36, 0.06 * side),
            at(0.48, 0.13 * side),
        ];
        thin(canvas, pose, &coat, &antenna, 0.010, 0.016);
    }
    let torso = limb(&[at(-0.25, 0.0), at(0.25, 0.0)], 0.03, 0.05);
    part(canvas, pose, &torso, 0.05, 0.0, |_| rim);
}

/// A dragonfly with a thin body and four long, narrow, spread wings.
pub(crate) fn dragonfly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let tail = limb(
        &[
            at(0.2, 0.0),
            at(-0.2, stream.around(0.0, 0.05)),
            at(-0.6, stream.around(0.0, 0.1)),
        ],
        0.045,
        0.022,
    );
    shadow(canvas, pose, &coat, &tail);
    let (alpha, tint) = (stream.between(0.3, 0.75), [0.85, 0.88, 0.88]);
    for side in [-1.0, 1.0] {
        for (x, turn) in [(0.1, 0.29), (0.2, 0.23)] {
            let wing = pose.inner(at(x, 0.0), (turn + stream.around(0.0, 0.03)) * side, 0.62);
            let shape = blade(at(0.0, 0.0), at(1.0, 0.0), 0.11, profile::paddle);
            canvas.fill(&wing, &shape, 1.0, alpha, |spot| {
                lit(tint, if spot.depth < 0.02 { 0.6 } else { 1.0 })
            });
            canvas.fill(&wing, &disc(at(0.92, 0.0), 0.04), 1.0, 0.8, |_| {
                [0.2, 0.12, 0.1]
            });
        }
    }
    part(canvas, pose, &tail, 0.04, 0.2, |p| {
        let ring = p.x * 14.0;
        if ring - ring.floor() < 0.3 {
            coat.second
        } else {
            coat.main
        }
    });
    part(
        canvas,
        pose,
        &ellipse(at(0.17, 0.0), 0.13, 0.08),
        0.08,
        0.3,
        |_| coat.main,
    );
    for side in [-1.0, 1.0] {
        part(
            canvas,
            pose,
            &disc(at(0.32, 0.05 * side), 0.06),
            0.06,
            0.6,
            |_| lit(coat.second, 0.7),
        );
    }
}

/// A fly with large eyes and one pair of wings.
pub(crate) fn fly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let tail = ellipse(at(-0.2, 0.0), 0.24, 0.2);
    shadow(canvas, pose, &coat, &tail);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.2, 0.13), (0.1, 0.26), (0.0, 0.38)],
        0.5,
        0.02,
    );
    part(canvas, pose, &tail, 0.2, 0.6, |_| coat.main);
    part(
        canvas,
        pose,
        &ellipse(at(0.1, 0.0), 0.18, 0.18),
        0.17,
        0.2,
        |p| {
            let line = p.y * 14.0;
            if line - line.floor() < 0.4 {
                lit(coat.second, 0.5)
            } else {
                coat.second
            }
        },
    );
    let (spread, length) = (stream.between(0.08, 0.13), stream.between(0.6, 0.75));
    for side in [-1.0, 1.0] {
        let wing = pose.inner(at(0.1, 0.1 * side), 0.5 - spread * side, length);
        let shape = blade(at(0.0, 0.0), at(1.0, 0.0), 0.22, profile::paddle);
        canvas.fill(&wing, &shape, 1.0, 0.45, |_| [0.8, 0.8, 0.82]);
        let eye = ellipse(at(0.32, 0.09 * side), 0.09, 0.08);
        part(canvas, pose, &eye, 0.08, 0.5, |_| [0.55, 0.12, 0.08]);
    }
}

/// A grasshopper seen from the side, with a long body and a bent hind leg.
pub(crate) fn grasshopper(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let torso = blade(at(0.4, -0.02), at(-0.5, 0.06), 0.1, profile::drop);
    shadow(canvas, pose, &coat, &torso);
    for x in [0.25, 0.12] {
        let foot = stream.around(0.05, 0.08);
        thin(
            canvas,
            pose,
            &coat,
            &[at(x, 0.05), at(x + 0.06, 0.16), at(x + foot, 0.3)],
            0.022,
            0.012,
        );
    }
    part(canvas, pose, &torso, 0.1, 0.2, |_| coat.main);
    let wing = blade(at(0.2, -0.05), at(-0.55, 0.0), 0.06, profile::drop);
    canvas.fill(pose, &wing, 1.0, 0.9, |_| coat.second);
    let knee = at(-0.3 + stream.around(0.0, 0.06), -0.3);
    let thigh = limb(&[at(0.0, 0.04), knee], 0.06, 0.025);
    part(canvas, pose, &thigh, 0.06, 0.0, |_| lit(coat.main, 1.15));
    thin(
        canvas,
        pose,
        &coat,
        &[knee, at(-0.5, 0.28), at(-0.42, 0.3)],
        0.02,
        0.012,
    );
    thin(
        canvas,
        pose,
        &coat,
        &[at(0.4, -0.08), at(0.55, -0.25), at(0.75, -0.3)],
        0.012,
        0.006,
    );
    canvas.fill(pose, &disc(at(0.36, -0.05), 0.03), 1.0, 1.0, |_| EYE);
}

/// A shield bug with a triangle on its back.
pub(crate) fn shield_bug(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let shoulder = stream.between(0.26, 0.34);
    let shield = Shape::Polygon(vec![
        at(0.32, 0.08),
        at(0.14, shoulder),
        at(-0.2, shoulder * 0.8),
        at(-0.42, 0.08),
        at(-0.42, -0.08),
        at(-0.2, -shoulder * 0.8),
        at(0.14, -shoulder),
        at(0.32, -0.08),
    ]);
    shadow(canvas, pose, &coat, &shield);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.18, 0.12), (0.05, 0.25), (-0.1, 0.37)],
        0.56,
        0.022,
    );
    for side in [-1.0, 1.0] {
        thin(
            canvas,
            pose,
            &coat,
            &[
                at(0.36, 0.04 * side),
                at(0.5, 0.1 * side),
                at(0.62, 0.22 * side),
            ],
            0.014,
            0.012,
        );
    }
    part(
        canvas,
        pose,
        &ellipse(at(0.34, 0.0), 0.09, 0.08),
        0.08,
        0.2,
        |_| coat.main,
    );
    part(canvas, pose, &shield, 0.2, 0.3, |_| coat.main);
    let mark = Shape::Polygon(vec![
        at(0.1, shoulder * 0.55),
        at(-0.18, 0.0),
        at(0.1, -shoulder * 0.55),
    ]);
    let contrast = coat.contrast();
    part(canvas, pose, &mark, 0.12, 0.0, |_| contrast);
}

/// A gnat with a small body, very long legs and two pairs of transparent wings.
pub(crate) fn gnat(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.18, 0.1), (0.14, 0.24), (0.08, 0.4)],
        0.95,
        0.012,
    );
    let tail = limb(
        &[at(0.15, 0.0), at(-0.35, stream.around(0.0, 0.08))],
        0.035,
        0.02,
    );
    part(canvas, pose, &tail, 0.03, 0.0, |_| coat.main);
    let (spread, alpha) = (stream.between(0.04, 0.2), stream.between(0.3, 0.6));
    wings(canvas, stream, pose, 0.14, spread, 0.5, alpha);
    part(canvas, pose, &disc(at(0.15, 0.0), 0.065), 0.06, 0.0, |_| {
        coat.second
    });
    part(canvas, pose, &disc(at(0.25, 0.0), 0.045), 0.04, 0.0, |_| {
        coat.main
    });
    thin(
        canvas,
        pose,
        &coat,
        &[at(0.28, 0.0), at(0.44, 0.0)],
        0.012,
        0.008,
    );
}
