//! The vertebrates of the pretraining task.
//!
//! Each animal faces +x, is about one unit long, and is centered at the origin.

use crate::body::{Coat, EYE, part, shadow, thin};
use crate::canvas::{Canvas, lit, mix};
use crate::plane::{Point, Pose, at};
use crate::shape::{Shape, blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::noise;

/// A fish with a forked tail and, in two of three images, vertical bars.
pub(crate) fn fish(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let height = stream.between(0.14, 0.26);
    let torso = blade(at(0.45, 0.0), at(-0.35, 0.0), height, profile::drop);
    shadow(canvas, pose, &coat, &torso);
    let fork = stream.between(0.15, 0.25);
    let tail = Shape::Polygon(vec![
        at(-0.28, 0.0),
        at(-0.52, -fork),
        at(-0.44, 0.0),
        at(-0.52, fork),
    ]);
    canvas.fill(pose, &tail, 1.0, 1.0, |_| coat.second);
    let fin = Shape::Polygon(vec![
        at(0.15, -height * 0.7),
        at(-0.05, -height * 1.5),
        at(-0.15, -height * 0.5),
    ]);
    canvas.fill(pose, &fin, 1.0, 1.0, |_| coat.second);
    let (bars, strong, contrast) = (
        stream.between(4.0, 9.0),
        stream.pick(&[0.0, 0.6, 1.0]),
        coat.contrast(),
    );
    part(canvas, pose, &torso, height, 0.3, |p| {
        let bar = p.x * bars;
        mix(
            coat.main,
            contrast,
            if bar - bar.floor() < 0.35 {
                strong
            } else {
                0.0
            },
        )
    });
    canvas.fill(pose, &disc(at(0.33, -0.04), 0.035), 1.0, 1.0, |_| {
        [0.9, 0.9, 0.85]
    });
    canvas.fill(pose, &disc(at(0.335, -0.04), 0.02), 1.0, 1.0, |_| EYE);
}

/// A perching bird, seen from the side.
pub(crate) fn bird(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let tail = Shape::Polygon(vec![
        at(-0.2, -0.06),
        at(-0.6, 0.02),
        at(-0.58, 0.14),
        at(-0.2, 0.08),
    ]);
    canvas.fill(pose, &tail, 1.0, 1.0, |_| lit(coat.second, 0.8));
    let torso = ellipse(at(-0.02, 0.02), 0.3, 0.2);
    shadow(canvas, pose, &coat, &torso);
    for x in [-0.05, 0.05] {
        thin(
            canvas,
            pose,
            &coat,
            &[at(x, 0.18), at(x + 0.02, 0.36), at(x + 0.09, 0.37)],
            0.014,
            0.012,
        );
    }
    let beak = Shape::Polygon(vec![at(0.4, -0.2), at(0.56, -0.15), at(0.4, -0.1)]);
    canvas.fill(pose, &beak, 1.0, 1.0, |_| [0.85, 0.6, 0.15]);
    part(canvas, pose, &torso, 0.2, 0.0, |p| {
        mix(coat.main, [0.9, 0.88, 0.8], (p.y * 3.0).clamp(0.0, 0.8))
    });
    part(
        canvas,
        pose,
        &disc(at(0.29, -0.16), 0.14),
        0.14,
        0.0,
        |_| coat.main,
    );
    let wing = blade(at(0.12, -0.04), at(-0.4, 0.06), 0.12, profile::drop);
    part(canvas, pose, &wing, 0.12, 0.0, |_| coat.second);
    canvas.fill(pose, &disc(at(0.33, -0.18), 0.025), 1.0, 1.0, |_| EYE);
}

/// A lizard with four splayed legs and a long bent tail.
pub(crate) fn lizard(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (sway, tip) = (stream.around(0.0, 0.15), stream.around(0.0, 0.3));
    let tail = limb(
        &[
            at(-0.05, 0.0),
            at(-0.3, sway * 0.5),
            at(-0.5, sway),
            at(-0.68, tip),
        ],
        0.07,
        0.012,
    );
    let torso = blade(at(0.3, 0.0), at(-0.14, 0.0), 0.1, profile::oval);
    shadow(canvas, pose, &coat, &tail);
    for (x, lean) in [(0.2, 0.1), (-0.04, -0.1)] {
        for side in [-1.0, 1.0] {
            let elbow = at(x + lean * stream.between(0.0, 1.0), 0.17 * side);
            let hand = elbow + at(stream.around(0.08, 0.06), 0.08 * side);
            thin(
                canvas,
                pose,
                &coat,
                &[at(x, 0.05 * side), elbow, hand],
                0.032,
                0.024,
            );
            for finger in [-0.04, 0.0, 0.04] {
                thin(
                    canvas,
                    pose,
                    &coat,
                    &[hand, hand + at(0.04, 0.03 * side + finger)],
                    0.012,
                    0.008,
                );
            }
        }
    }
    let (key, contrast) = (stream.bits(), coat.contrast());
    let skin = |p: Point| {
        if noise(p * 18.0, key) > 0.6 {
            contrast
        } else {
            coat.main
        }
    };
    part(canvas, pose, &tail, 0.06, 0.0, skin);
    part(canvas, pose, &torso, 0.1, 0.2, skin);
    part(
        canvas,
        pose,
        &blade(at(0.26, 0.0), at(0.48, 0.0), 0.085, profile::drop),
        0.08,
        0.0,
        skin,
    );
    for side in [-1.0, 1.0] {
        canvas.fill(pose, &disc(at(0.36, 0.06 * side), 0.022), 1.0, 1.0, |_| EYE);
    }
}
