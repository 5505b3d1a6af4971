//! The animals of the pretraining task, which include neither ants nor bees.
//!
//! Each animal faces +x, is about one unit long, and is centered at the origin.

use super::body::{Coat, legs, part, shadow, thin, wings};
use super::canvas::{Canvas, lit, mix};
use super::plane::{Point, Pose, at, direction};
use super::shape::{Shape, blade, disc, ellipse, limb, profile};
use super::stream::Stream;
use super::texture::noise;

const EYE: [f32; 3] = [0.05; 3];

/// A beetle with wing cases that meet in a line, a neck shield and six legs.
pub(super) fn beetle(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(super) fn ladybird(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(super) fn butterfly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(super) fn dragonfly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(super) fn fly(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// A spider with two body parts and eight legs.
pub(super) fn spider(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let tail = ellipse(at(-0.17, 0.0), 0.2, stream.between(0.13, 0.19));
    shadow(canvas, pose, &coat, &tail);
    let reach = stream.between(0.6, 1.0);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.14, 0.08), (0.12, 0.18), (0.08, 0.3), (0.04, 0.41)],
        reach,
        0.022,
    );
    let contrast = coat.contrast();
    part(canvas, pose, &tail, 0.16, 0.3, |p| {
        if p.y.abs() < 0.03 + 0.03 * noise(p * 20.0, 3) {
            contrast
        } else {
            coat.main
        }
    });
    part(
        canvas,
        pose,
        &ellipse(at(0.12, 0.0), 0.12, 0.1),
        0.1,
        0.2,
        |_| coat.second,
    );
}

/// A grasshopper seen from the side, with a long body and bent hind legs.
pub(super) fn grasshopper(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// Points on a random curve of unit length, for crawling animals.
fn crawl(stream: &mut Stream, points: usize) -> Vec<Point> {
    let (mut heading, mut bend) = (stream.around(0.0, 0.08), stream.around(0.0, 0.05));
    let step = 1.0 / (points - 1) as f32;
    let mut line = vec![at(-0.5, 0.0)];
    for i in 1..points {
        if i % 4 == 0 {
            bend = -bend + stream.around(0.0, 0.03);
        }
        heading += bend;
        line.push(line[i - 1] + direction(heading) * step);
    }
    line
}

/// A caterpillar, a row of round segments.
pub(super) fn caterpillar(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let line = crawl(stream, 9);
    let radius = stream.between(0.08, 0.11);
    shadow(canvas, pose, &coat, &limb(&line, radius, radius));
    let contrast = coat.contrast();
    for (i, &p) in line.iter().enumerate() {
        let color = if i % 2 == 0 { coat.main } else { contrast };
        part(canvas, pose, &disc(p, radius), radius, 0.2, |_| color);
    }
    let head = line[line.len() - 1];
    part(canvas, pose, &disc(head, radius * 1.1), radius, 0.3, |_| {
        lit(coat.second, 0.6)
    });
}

/// A centipede with a pair of legs at each segment.
pub(super) fn centipede(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let line = crawl(stream, 15);
    let reach = stream.between(0.12, 0.2);
    for ends in line.windows(2) {
        let along = (ends[1] - ends[0]) * 14.0;
        for side in [-1.0, 1.0] {
            let out = along.rotated() * side + along * stream.around(0.0, 0.4);
            thin(
                canvas,
                pose,
                &coat,
                &[ends[0], ends[0] + out * reach],
                0.014,
                0.008,
            );
        }
    }
    let torso = limb(&line, 0.035, 0.05);
    shadow(canvas, pose, &coat, &torso);
    part(canvas, pose, &torso, 0.045, 0.2, |_| coat.main);
    for &p in &line {
        canvas.fill(pose, &disc(p, 0.025), 1.0, 0.7, |_| coat.second);
    }
}

/// A scorpion with claws and a curled tail.
pub(super) fn scorpion(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.12, 0.14), (0.05, 0.22), (-0.02, 0.3), (-0.08, 0.38)],
        0.4,
        0.018,
    );
    let torso = ellipse(at(0.02, 0.0), 0.2, 0.1);
    let curl = stream.between(0.04, 0.09) * stream.sign();
    let (mut heading, mut tail) = (0.5, vec![at(-0.15, 0.0)]);
    for i in 0..6 {
        heading += curl;
        let last = tail[i];
        tail.push(last + direction(heading) * 0.1);
    }
    let tail_line = limb(&tail, 0.045, 0.03);
    shadow(canvas, pose, &coat, &tail_line);
    part(canvas, pose, &tail_line, 0.04, 0.2, |_| coat.main);
    part(canvas, pose, &torso, 0.1, 0.3, |p| {
        let ring = p.x * 16.0;
        if ring - ring.floor() < 0.25 {
            coat.second
        } else {
            coat.main
        }
    });
    for side in [-1.0, 1.0] {
        let wrist = at(0.42, stream.between(0.16, 0.3) * side);
        thin(
            canvas,
            pose,
            &coat,
            &[at(0.18, 0.06 * side), at(0.28, 0.2 * side), wrist],
            0.025,
            0.03,
        );
        for split in [-0.04, 0.05] {
            let claw = pose.inner(wrist, split - 0.06 * side, 1.0);
            let finger = blade(at(-0.03, 0.0), at(0.2, 0.0), 0.04, profile::drop);
            part(canvas, &claw, &finger, 0.04, 0.2, |_| coat.main);
        }
    }
}

/// A snail with a coiled shell and two tentacles.
pub(super) fn snail(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let foot = limb(
        &[at(-0.5, 0.22), at(0.0, 0.2), at(0.35, 0.15), at(0.46, 0.0)],
        0.05,
        0.08,
    );
    shadow(canvas, pose, &coat, &foot);
    for x in [0.46, 0.52] {
        thin(
            canvas,
            pose,
            &coat,
            &[at(x - 0.02, 0.0), at(x + 0.08, -0.18)],
            0.014,
            0.02,
        );
    }
    part(canvas, pose, &foot, 0.08, 0.2, |_| coat.second);
    let radius = stream.between(0.26, 0.32);
    let shell = disc(at(-0.05, -0.04), radius);
    part(canvas, pose, &shell, radius, 0.3, |_| coat.main);
    let (contrast, turns) = (lit(coat.main, 0.45), stream.between(2.0, 3.0));
    let coil: Vec<_> = (0..40)
        .map(|i| i as f32 / 39.0)
        .map(|t| at(-0.05, -0.04) + direction(t * turns) * (radius * (1.0 - t)))
        .collect();
    canvas.fill(pose, &limb(&coil, 0.022, 0.010), 1.0, 0.9, |_| contrast);
}

/// A worm, slightly thicker at one end.
pub(super) fn worm(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let radius = stream.between(0.04, 0.065);
    let body = limb(&crawl(stream, 17), radius * 0.7, radius);
    shadow(canvas, pose, &coat, &body);
    let key = stream.bits();
    part(canvas, pose, &body, radius, 0.4, |p| {
        lit(coat.main, 0.9 + 0.2 * noise(p * 40.0, key))
    });
}

/// A fish with a forked tail and vertical bars.
pub(super) fn fish(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(super) fn bird(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// A crab with a wide shell, bent legs and two claws.
pub(super) fn crab(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let shell = ellipse(at(0.0, 0.0), 0.22, 0.3);
    shadow(canvas, pose, &coat, &shell);
    let thick = stream.between(0.025, 0.04);
    for x in [-0.14, -0.06, 0.02] {
        for side in [-1.0, 1.0] {
            let knee = at(x * 1.6 + stream.around(0.0, 0.05), 0.46 * side);
            let toe = at(x * 2.4 - 0.08 + stream.around(0.0, 0.05), 0.56 * side);
            thin(
                canvas,
                pose,
                &coat,
                &[at(x, 0.22 * side), knee, toe],
                thick,
                thick * 0.4,
            );
        }
    }
    for side in [-1.0, 1.0] {
        let wrist = at(0.34, stream.between(0.26, 0.4) * side);
        thin(
            canvas,
            pose,
            &coat,
            &[at(0.12, 0.22 * side), at(0.2, 0.42 * side), wrist],
            0.04,
            0.04,
        );
        for split in [-0.07, 0.07] {
            let claw = pose.inner(wrist, split - 0.05 * side, 1.0);
            part(
                canvas,
                &claw,
                &blade(at(-0.05, 0.0), at(0.22, 0.0), 0.06, profile::drop),
                0.06,
                0.2,
                |_| coat.main,
            );
        }
        thin(
            canvas,
            pose,
            &coat,
            &[at(0.18, 0.06 * side), at(0.28, 0.08 * side)],
            0.014,
            0.02,
        );
    }
    let key = stream.bits();
    part(canvas, pose, &shell, 0.24, 0.3, |p| {
        mix(coat.main, coat.second, noise(p * 9.0, key))
    });
}

/// A starfish with five tapering arms.
pub(super) fn starfish(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let (key, contrast) = (stream.bits(), coat.contrast());
    for i in 0..5 {
        let arm = pose.inner(at(0.0, 0.0), i as f32 / 5.0 + stream.around(0.0, 0.03), 1.0);
        let bent = limb(
            &[
                at(0.0, 0.0),
                at(0.25, 0.0),
                at(0.5, stream.around(0.0, 0.12)),
            ],
            0.14,
            0.04,
        );
        shadow(canvas, &arm, &coat, &bent);
        part(canvas, &arm, &bent, 0.12, 0.0, |p| {
            if noise(p * 22.0, key) > 0.68 {
                contrast
            } else {
                coat.main
            }
        });
    }
}

/// A lizard with four splayed legs and a long bent tail.
pub(super) fn lizard(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// A shield bug with a triangle on its back.
pub(super) fn shield_bug(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// A gnat with a small body, very long legs and a pair of transparent wings.
pub(super) fn gnat(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
