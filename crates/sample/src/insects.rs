//! The two classes of the sample.
//!
//! Colors, sizes, poses and backgrounds have the same distributions in both classes. The classes
//! differ in their anatomy. An ant has three body parts with a thin waist, long thin legs and
//! elbowed antennae. A bee has a stout body without a waist, a striped abdomen, two pairs of
//! transparent wings and short legs. As in nature, no single feature is reliable: some ants are
//! banded, and some bees have folded wings or faint stripes.

use crate::body::{Coat, legs, part, shadow, thin, wings};
use crate::canvas::{Canvas, lit, mix};
use crate::plane::{Pose, at, direction};
use crate::shape::{blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::noise;

/// Scale of the insects, relative to the objects in the pretraining task.
const SCALE: f32 = 1.2;

/// An ant: head, thorax, waist and gaster.
pub(crate) fn ant(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let pose = &pose.inner(at(0.0, 0.0), 0.0, SCALE);
    let coat = Coat::natural(stream, pose);
    let stout = stream.between(0.85, 1.25);
    let key = stream.bits();

    // The hind body rotates around the waist, and the head around the neck.
    let waist = at(-0.13, 0.0);
    let hind = pose.inner(waist, 0.5 + stream.around(0.0, 0.07), 1.0);
    let head = pose.inner(at(0.22, 0.0), stream.around(0.0, 0.06), 1.0);
    let gaster_length = stream.between(0.34, 0.44);
    let gaster_width = stout * stream.between(0.115, 0.16);
    let gaster = blade(
        at(0.05, 0.0),
        at(0.05 + gaster_length, 0.0),
        gaster_width,
        profile::drop,
    );
    let thorax_width = stout * stream.between(0.06, 0.085);
    let thorax = blade(at(0.25, 0.0), at(-0.11, 0.0), thorax_width, profile::drop);
    let skull_width = stout * stream.between(0.09, 0.125);
    let skull = ellipse(at(0.11, 0.0), 0.115, skull_width);

    shadow(canvas, &hind, &coat, &gaster);
    shadow(canvas, pose, &coat, &thorax);
    shadow(canvas, &head, &coat, &skull);
    let length = stream.between(0.52, 0.7);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.14, 0.14), (0.06, 0.25), (-0.03, 0.37)],
        length,
        0.02,
    );

    for side in [-1.0, 1.0] {
        let lean = direction((0.06 + stream.around(0.0, 0.03)) * side);
        let elbow = at(0.19, 0.05 * side) + lean * 0.17;
        let swing = direction((-0.03 + stream.around(0.0, 0.06)) * side);
        let tip = elbow + swing * stream.between(0.16, 0.24);
        thin(
            canvas,
            &head,
            &coat,
            &[at(0.17, 0.05 * side), elbow, tip],
            0.013,
            0.013,
        );
        let jaw = [at(0.20, 0.04 * side), at(0.26, 0.035 * side), at(0.27, 0.0)];
        thin(canvas, &head, &coat, &jaw, 0.016, 0.006);
    }

    let (bands, faint) = (
        stream.count(3, 5) as f32,
        stream.pick(&[0.0, 0.0, 0.15, 0.3]),
    );
    let gloss = stream.between(0.0, 0.6);
    let (main, second) = (coat.main, coat.second);
    part(canvas, &hind, &gaster, gaster_width, gloss, |p| {
        let along = p.x * bands / gaster_length;
        let band = if along - along.floor() < 0.3 {
            faint
        } else {
            0.0
        };
        mix(main, lit(second, 1.5), band)
    });
    for (x, size) in [(0.0, 0.035), (0.035, 0.028)] {
        part(
            canvas,
            &hind,
            &disc(at(x, 0.0), size * stout),
            size,
            0.0,
            |_| second,
        );
    }
    part(canvas, pose, &thorax, thorax_width, gloss * 0.5, |p| {
        lit(second, 0.85 + 0.3 * noise(p * 14.0, key))
    });
    let face = mix(main, second, 0.5);
    part(canvas, &head, &skull, skull_width, gloss * 0.5, |_| face);
    for side in [-1.0, 1.0] {
        let eye = ellipse(at(0.12, 0.75 * skull_width * side), 0.028, 0.02);
        canvas.fill(&head, &eye, 1.0, 1.0, |_| [0.05; 3]);
    }
}

/// A bee: head, hairy thorax, striped abdomen and wings.
pub(crate) fn bee(canvas: &mut Canvas, stream: &mut Stream, pose: &Pose) {
    let pose = &pose.inner(at(0.0, 0.0), 0.0, SCALE);
    let coat = Coat::natural(stream, pose);
    let stout = stream.between(0.95, 1.3);
    let key = stream.bits();

    let hind = pose.inner(at(0.0, 0.0), 0.5 + stream.around(0.0, 0.04), 1.0);
    let head = pose.inner(at(0.26, 0.0), stream.around(0.0, 0.05), 1.0);
    let length = stream.between(0.46, 0.56);
    let width = stout * stream.between(0.165, 0.205);
    let abdomen = blade(at(-0.05, 0.0), at(length, 0.0), width, profile::drop);
    let chest_width = stout * stream.between(0.15, 0.18);
    let chest = ellipse(at(0.12, 0.0), 0.16, chest_width);
    let skull_width = stout * stream.between(0.11, 0.14);
    let skull = ellipse(at(0.07, 0.0), 0.085, skull_width);

    shadow(canvas, &hind, &coat, &abdomen);
    shadow(canvas, pose, &coat, &chest);
    shadow(canvas, &head, &coat, &skull);
    let reach = stream.between(0.34, 0.46);
    legs(
        canvas,
        stream,
        pose,
        &coat,
        &[(0.2, 0.13), (0.12, 0.26), (0.03, 0.39)],
        reach,
        0.024,
    );
    for side in [-1.0, 1.0] {
        let bend = direction((0.09 + stream.around(0.0, 0.04)) * side);
        let elbow = at(0.13, 0.04 * side) + bend * 0.07;
        let tip = elbow
            + direction((0.05 + stream.around(0.0, 0.05)) * side) * stream.between(0.07, 0.13);
        thin(
            canvas,
            &head,
            &coat,
            &[at(0.12, 0.04 * side), elbow, tip],
            0.014,
            0.014,
        );
    }

    let stripes = stream.count(4, 6) as f32;
    let strong = stream.pick(&[0.6, 0.8, 1.0, 1.0]);
    let share = stream.between(0.35, 0.6);
    let (main, second) = (coat.main, coat.second);
    let stripe = coat.contrast();
    let gloss = stream.between(0.0, 0.5);
    part(canvas, &hind, &abdomen, width, gloss, |p| {
        // The stripes are curved, as on a round body.
        let along = (p.x + 0.4 * p.y * p.y / width) * stripes / length;
        let band = if along - along.floor() < share {
            strong
        } else {
            0.0
        };
        mix(main, stripe, band)
    });
    // Hairs on the thorax.
    let fur = mix(second, main, stream.unit());
    for i in 0..stream.count(20, 44) {
        let out = direction(i as f32 * 0.381_966);
        let root = at(0.12 + out.x * 0.13, out.y * (chest_width - 0.03));
        let hair = limb(
            &[root, root + out * stream.between(0.03, 0.07)],
            0.012,
            0.006,
        );
        canvas.fill(pose, &hair, 1.0, 0.7, |_| lit(fur, 0.9));
    }
    part(canvas, pose, &chest, chest_width, 0.0, |p| {
        lit(fur, 0.75 + 0.5 * noise(p * 22.0, key))
    });
    part(canvas, &head, &skull, skull_width, gloss, |_| main);
    for side in [-1.0, 1.0] {
        let eye = ellipse(at(0.08, 0.72 * skull_width * side), 0.06, 0.03);
        canvas.fill(&head, &eye, 1.0, 1.0, |_| lit(main, 0.35));
    }
    let spread = stream.between(0.05, 0.24);
    let (length, alpha) = (stream.between(0.55, 0.72), stream.between(0.35, 0.65));
    wings(canvas, stream, pose, 0.14, spread, length, alpha);
}
