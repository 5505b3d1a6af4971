//! The plants of the pretraining task. Each plant has a size of about one unit and is centered at
//! the origin.

use crate::body::{Coat, part, shadow, thin};
use crate::canvas::{Canvas, lit, mix};
use crate::plane::{Pose, at, direction};
use crate::shape::{Shape, blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::noise;

/// A daisy with many narrow petals.
pub(crate) fn daisy(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let rays = stream.count(11, 20);
    shadow(canvas, pose, &coat, &disc(at(0.0, 0.0), 0.42));
    for i in 0..rays {
        let turn = (i as f32 + stream.around(0.0, 0.2)) / rays as f32;
        let ray = pose.inner(at(0.0, 0.0), turn, 1.0);
        let petal = blade(
            at(0.08, 0.0),
            at(stream.between(0.42, 0.5), 0.0),
            0.07,
            profile::paddle,
        );
        part(canvas, &ray, &petal, 0.07, 0.0, |_| coat.main);
    }
    let (key, heart, contrast) = (stream.bits(), stream.between(0.11, 0.18), coat.contrast());
    part(canvas, pose, &disc(at(0.0, 0.0), heart), heart, 0.0, |p| {
        lit(contrast, 0.7 + 0.5 * noise(p * 40.0, key))
    });
}

/// A clover with three notched leaves on a stalk.
pub(crate) fn clover(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    thin(
        canvas,
        pose,
        &coat,
        &[
            at(0.0, 0.0),
            at(-0.25, 0.05),
            at(-0.5, stream.around(0.0, 0.15)),
        ],
        0.025,
        0.02,
    );
    for i in 0..3 {
        let leaf = pose.inner(
            at(0.0, 0.0),
            (i as f32 - 1.0) * 0.28 + stream.around(0.0, 0.03),
            1.0,
        );
        for lobe in [-1.0, 1.0] {
            let half = leaf.inner(at(0.0, 0.0), 0.05 * lobe, 1.0);
            let shape = blade(at(0.0, 0.0), at(0.42, 0.0), 0.13, profile::paddle);
            shadow(canvas, &half, &coat, &shape);
            part(canvas, &half, &shape, 0.13, 0.0, |_| coat.main);
        }
        let mark = limb(
            &[at(0.18, -0.1), at(0.25, 0.0), at(0.18, 0.1)],
            0.016,
            0.016,
        );
        canvas.fill(&leaf, &mark, 1.0, 0.6, |_| lit(coat.main, 1.6));
    }
}

/// A leaf with veins.
pub(crate) fn leaf(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let width = stream.between(0.14, 0.26);
    let shape = blade(
        at(-0.4, 0.0),
        at(0.5, 0.0),
        width,
        stream.pick(&[profile::leaf, profile::drop]),
    );
    shadow(canvas, pose, &coat, &shape);
    thin(
        canvas,
        pose,
        &coat,
        &[at(-0.4, 0.0), at(-0.6, stream.around(0.0, 0.06))],
        0.016,
        0.02,
    );
    let (gap, vein) = (
        stream.between(0.08, 0.13),
        lit(coat.main, stream.pick(&[0.6, 1.5])),
    );
    part(canvas, pose, &shape, width, 0.1, |p| {
        let rib = (p.x - 0.8 * p.y.abs()) / gap;
        if p.y.abs() < 0.014 || rib - rib.floor() < 0.16 {
            vein
        } else {
            coat.main
        }
    });
}

/// A fern with pairs of leaflets along a stem.
pub(crate) fn fern(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (pairs, bend) = (stream.count(7, 11), stream.around(0.0, 0.12));
    let stem = |t: f32| at(-0.5 + t, bend * 4.0 * t * (1.0 - t));
    for i in 0..pairs {
        let t = 0.15 + 0.82 * i as f32 / pairs as f32;
        let length = 0.34 * (1.05 - t) + 0.04;
        for side in [-1.0, 1.0] {
            let leaflet = pose.inner(stem(t), 0.19 * side, 1.0);
            let shape = blade(at(0.0, 0.0), at(length, 0.0), 0.035, profile::leaf);
            part(canvas, &leaflet, &shape, 0.03, 0.0, |_| coat.main);
        }
    }
    let line: Vec<_> = (0..9).map(|i| stem(i as f32 / 8.0)).collect();
    thin(canvas, pose, &coat, &line, 0.016, 0.008);
}

/// A leaf with five pointed lobes, like that of a maple.
pub(crate) fn lobed_leaf(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let mut outline = vec![at(-0.2, 0.0)];
    let depth = stream.between(0.16, 0.24);
    for i in 0..5 {
        let turn = (i as f32 - 2.0) * 0.15;
        let reach = [0.36, 0.48, 0.56, 0.48, 0.36][i] * stream.around(1.0, 0.1);
        outline.push(at(-0.08, 0.0) + direction(turn) * reach);
        if i < 4 {
            outline.push(at(-0.08, 0.0) + direction(turn + 0.075) * depth);
        }
    }
    let shape = Shape::Polygon(outline.clone());
    shadow(canvas, pose, &coat, &shape);
    thin(
        canvas,
        pose,
        &coat,
        &[at(-0.15, 0.0), at(-0.55, stream.around(0.0, 0.1))],
        0.018,
        0.022,
    );
    part(canvas, pose, &shape, 0.15, 0.0, |_| coat.main);
    for tip in outline.iter().skip(1).step_by(2) {
        let vein = limb(&[at(-0.15, 0.0), *tip], 0.012, 0.004);
        canvas.fill(pose, &vein, 1.0, 0.7, |_| lit(coat.main, 0.6));
    }
}

/// A mushroom, seen from the side.
pub(crate) fn mushroom(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let stem = limb(
        &[at(-0.5, 0.0), at(0.1, stream.around(0.0, 0.06))],
        0.1,
        0.065,
    );
    shadow(canvas, pose, &coat, &stem);
    part(canvas, pose, &stem, 0.1, 0.0, |_| {
        mix(coat.second, [0.9, 0.86, 0.76], 0.6)
    });
    let (wide, high) = (stream.between(0.3, 0.42), stream.between(0.26, 0.4));
    let cap: Vec<_> = (0..=16)
        .map(|i| direction(i as f32 / 32.0 - 0.25))
        .map(|d| at(0.05 + d.x * high, d.y * wide))
        .collect();
    let cap = Shape::Polygon(cap);
    part(canvas, pose, &cap, 0.2, 0.2, |_| coat.main);
    if stream.chance(0.6) {
        for _ in 0..stream.count(3, 7) {
            let spot = at(
                stream.between(0.1, 0.05 + high * 0.6),
                stream.around(0.0, wide * 0.6),
            );
            canvas.fill(
                pose,
                &disc(spot, stream.between(0.02, 0.05)),
                1.0,
                1.0,
                |_| [0.9, 0.88, 0.8],
            );
        }
    }
}

/// Berries on a branching stalk.
pub(crate) fn berries(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let radius = stream.between(0.09, 0.13);
    for _ in 0..stream.count(4, 9) {
        let place = direction(stream.unit()) * stream.between(0.05, 0.34) + at(0.12, 0.0);
        thin(
            canvas,
            pose,
            &coat,
            &[at(-0.5, 0.0), at(-0.2, 0.0), place],
            0.02,
            0.014,
        );
        let berry = disc(place, radius * stream.around(1.0, 0.15));
        shadow(canvas, pose, &coat, &berry);
        part(canvas, pose, &berry, radius, 0.9, |_| coat.main);
    }
}

/// A tulip, seen from the side.
pub(crate) fn tulip(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    thin(
        canvas,
        pose,
        &coat,
        &[
            at(0.0, 0.0),
            at(-0.3, stream.around(0.0, 0.06)),
            at(-0.6, 0.0),
        ],
        0.03,
        0.025,
    );
    let green = blade(
        at(-0.55, 0.02),
        at(-0.05, stream.between(0.12, 0.25) * stream.sign()),
        0.06,
        profile::leaf,
    );
    part(canvas, pose, &green, 0.06, 0.0, |_| coat.legs);
    for (turn, shade) in [(-0.05, 0.85), (0.05, 0.85), (0.0, 1.1)] {
        let petal = pose.inner(at(-0.05, turn), turn + stream.around(0.0, 0.015), 1.0);
        let shape = blade(at(0.0, 0.0), at(0.5, 0.0), 0.16, profile::drop);
        part(canvas, &petal, &shape, 0.15, 0.0, |_| lit(coat.main, shade));
    }
}

/// An acorn in a scaly cup.
pub(crate) fn acorn(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let nut = blade(
        at(-0.2, 0.0),
        at(0.45, 0.0),
        stream.between(0.2, 0.26),
        profile::drop,
    );
    shadow(canvas, pose, &coat, &nut);
    thin(
        canvas,
        pose,
        &coat,
        &[at(-0.3, 0.0), at(-0.5, stream.around(0.0, 0.08))],
        0.03,
        0.025,
    );
    part(canvas, pose, &nut, 0.2, 0.6, |_| coat.main);
    let contrast = coat.contrast();
    part(
        canvas,
        pose,
        &ellipse(at(-0.17, 0.0), 0.17, 0.28),
        0.2,
        0.0,
        |p| {
            let (a, b) = ((p.x + p.y) * 14.0, (p.x - p.y) * 14.0);
            lit(
                contrast,
                if a - a.floor() < 0.25 || b - b.floor() < 0.25 {
                    0.6
                } else {
                    1.0
                },
            )
        },
    );
}
