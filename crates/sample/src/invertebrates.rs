//! The invertebrates of the pretraining task, except insects, which are in `bugs.rs`.
//!
//! Each animal faces +x, is about one unit long, and is centered at the origin.

use crate::body::{Coat, legs, part, shadow, thin};
use crate::canvas::{Canvas, lit, mix};
use crate::plane::{Point, Pose, at, direction};
use crate::shape::{blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::noise;

/// A spider with two body parts and eight legs.
pub(crate) fn spider(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(crate) fn caterpillar(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(crate) fn centipede(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(crate) fn scorpion(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(crate) fn snail(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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

/// A worm that is thinner at the tail.
pub(crate) fn worm(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let coat = Coat::vivid(stream, pose);
    let radius = stream.between(0.04, 0.065);
    let body = limb(&crawl(stream, 17), radius * 0.7, radius);
    shadow(canvas, pose, &coat, &body);
    let key = stream.bits();
    part(canvas, pose, &body, radius, 0.4, |p| {
        lit(coat.main, 0.9 + 0.2 * noise(p * 40.0, key))
    });
}

/// A crab with a wide shell, bent legs and two claws.
pub(crate) fn crab(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
pub(crate) fn starfish(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
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
