//! Backgrounds, clutter, lighting and camera effects.
//!
//! Their distributions are the same for all classes, so they do not reveal the class.

use crate::canvas::{Canvas, Color, lit, mix};
use crate::plane::{Point, Pose, at, bell, direction};
use crate::shape::{Shape, blade, disc, ellipse, limb, profile};
use crate::stream::Stream;
use crate::texture::{cloud, noise};

/// Background colors: greens, soils, bark, stone, sand, petals and sky.
const GROUNDS: [Color; 16] = [
    [0.30, 0.48, 0.20],
    [0.45, 0.60, 0.28],
    [0.20, 0.33, 0.16],
    [0.58, 0.68, 0.42],
    [0.40, 0.30, 0.21],
    [0.55, 0.42, 0.29],
    [0.28, 0.22, 0.18],
    [0.62, 0.58, 0.52],
    [0.46, 0.45, 0.44],
    [0.78, 0.70, 0.55],
    [0.82, 0.80, 0.76],
    [0.80, 0.52, 0.62],
    [0.68, 0.55, 0.80],
    [0.88, 0.76, 0.32],
    [0.62, 0.74, 0.84],
    [0.72, 0.44, 0.28],
];

/// A random variation of a background color.
fn ground(stream: &mut Stream) -> Color {
    let base = stream.pick(&GROUNDS);
    let light = stream.around(1.0, 0.25);
    base.map(|c| c * light + stream.around(0.0, 0.06))
}

/// Draws a background of `width` × `height` pixels.
pub(crate) fn background(stream: &mut Stream, width: usize, height: usize) -> Canvas {
    let (a, mut b) = (ground(stream), ground(stream));
    if stream.chance(0.85) {
        // Usually the two colors are shades of the same surface.
        b = mix(lit(a, stream.between(0.7, 1.25)), b, 0.15);
    }
    let key = stream.bits();
    let side = width.min(height) as f32;
    let axis = direction(stream.unit());
    let turned = move |p: Point| at(p.dot(axis), p.dot(axis.rotated()));
    match stream.count(0, 6) {
        0 => {
            // Soil: smooth noise with grains.
            let grain = stream.between(0.08, 0.3);
            let mut canvas = Canvas::new(width, height, |p| {
                let shade = cloud(p * (5.0 / side), key, 4);
                lit(
                    mix(a, b, shade),
                    1.0 + grain * (noise(p * 0.6, key ^ 1) - 0.5),
                )
            });
            pebbles(&mut canvas, stream, 26, 0.06);
            canvas
        }
        1 => {
            // Bark or wood: noise stretched along one direction.
            let (wide, long) = (stream.between(8.0, 20.0), stream.between(1.0, 2.5));
            Canvas::new(width, height, |p| {
                let q = turned(p) * (1.0 / side);
                mix(a, b, cloud(at(q.x * wide, q.y * long), key, 3))
            })
        }
        2 => {
            // Close-up of a leaf with veins.
            let mut canvas = Canvas::new(width, height, |p| {
                mix(a, b, cloud(p * (3.0 / side), key, 2))
            });
            veins(&mut canvas, stream, lit(a, 1.25));
            canvas
        }
        3 => {
            // Out of focus: a gradient with large blurred spots.
            let mut canvas = Canvas::new(width, height, |p| {
                mix(a, b, 0.5 + turned(p).x / (2.0 * side))
            });
            for _ in 0..stream.count(4, 12) {
                let color = ground(stream);
                let place = anywhere(stream, &canvas);
                let pose = Pose::new(place, 0.0, side * stream.between(0.1, 0.35));
                let (edge, alpha) = (side * stream.between(0.1, 0.3), stream.between(0.2, 0.6));
                canvas.fill(&pose, &disc(at(0.0, 0.0), 1.0), edge, alpha, |_| color);
            }
            canvas
        }
        4 => {
            // Inside of a flower: broad petals around a center.
            let mut canvas =
                Canvas::new(width, height, |p| mix(a, b, noise(p * (4.0 / side), key)));
            let heart = anywhere(stream, &canvas);
            let (petals, phase) = (stream.count(5, 14), stream.unit());
            for i in 0..petals {
                let pose = Pose::new(heart, phase + i as f32 / petals as f32, side);
                let length = stream.between(0.7, 1.2);
                let tint = stream.around(1.0, 0.15);
                let petal = blade(
                    at(0.05, 0.0),
                    at(length, 0.0),
                    1.6 / petals as f32,
                    profile::paddle,
                );
                canvas.fill(&pose, &petal, 2.0, 0.85, |spot| {
                    lit(mix(a, b, spot.at.x), tint * (0.8 + 1.2 * spot.depth))
                });
            }
            canvas
        }
        5 => {
            // Grass: many overlapping blades.
            let mut canvas = Canvas::new(width, height, |_| lit(a, 0.8));
            for _ in 0..stream.count(12, 30) {
                stalk(&mut canvas, stream, mix(a, b, 0.5), 0.02, 0.05);
            }
            canvas
        }
        _ => {
            // Stone or sand: fine speckles on a gradient.
            let (fine, contrast) = (stream.between(0.2, 0.7), stream.between(0.05, 0.35));
            Canvas::new(width, height, |p| {
                let slow = mix(a, b, cloud(p * (2.0 / side), key, 2));
                lit(slow, 1.0 + contrast * (cloud(p * fine, key ^ 7, 2) - 0.5))
            })
        }
    }
}

/// Draws at most `max` items: twigs, stalks, groups of pebbles, blossoms or fallen leaves.
pub(crate) fn clutter(canvas: &mut Canvas, stream: &mut Stream, max: usize) {
    for _ in 0..stream.count(0, max) {
        match stream.count(0, 4) {
            0 => twig(canvas, stream),
            1 => {
                let color = ground(stream);
                stalk(canvas, stream, color, 0.01, 0.05);
            }
            2 => pebbles(canvas, stream, 5, 0.14),
            3 => blossom(canvas, stream),
            _ => fallen_leaf(canvas, stream),
        }
    }
}

/// Draws a stalk or twig across the image, near `target`.
pub(crate) fn obstacle(canvas: &mut Canvas, stream: &mut Stream, target: Point) {
    let color = ground(stream);
    let side = canvas.side();
    let along = direction(stream.unit());
    let middle = target + at(stream.around(0.0, 0.25), stream.around(0.0, 0.25)) * side;
    let bend = along.rotated() * (side * stream.around(0.0, 0.2));
    let points = [
        middle - along * (1.5 * side),
        middle + bend,
        middle + along * (1.5 * side),
    ];
    let width = side * stream.between(0.012, 0.04);
    line(
        canvas,
        &points,
        width,
        width * stream.between(0.4, 1.0),
        color,
    );
}

/// Applies lighting, exposure, a color cast, glare, contrast, blur and noise, and returns the
/// image.
pub(crate) fn photograph(mut canvas: Canvas, stream: &mut Stream) -> image::RgbImage {
    let (size, from) = (canvas.size(), direction(stream.unit()));
    let (slope, exposure) = (stream.between(0.0, 0.35), stream.around(1.0, 0.3));
    let contrast = stream.around(0.95, 0.25);
    let cast = [(); 3].map(|()| stream.around(1.0, 0.1));
    let spot = anywhere(stream, &canvas);
    let glare = if stream.chance(0.3) {
        stream.between(0.1, 0.35)
    } else {
        0.0
    };
    canvas.change(|p, color| {
        let across = (p - size * 0.5).dot(from) / size.length();
        let light = exposure * (1.0 + slope * 2.0 * across);
        let bright = glare * bell((p - spot).length() / (0.35 * size.length()));
        [0, 1, 2].map(|c| 0.45 + (color[c] * light * cast[c] + bright - 0.45) * contrast)
    });
    let times = stream.pick(&[0, 0, 1, 1, 2]);
    canvas.blur(stream.between(0.08, 0.25), times);
    let noise = stream.between(0.0, 0.05);
    canvas.to_image(stream, noise)
}

/// A random point on the canvas.
fn anywhere(stream: &mut Stream, canvas: &Canvas) -> Point {
    let size = canvas.size();
    at(stream.unit() * size.x, stream.unit() * size.y)
}

/// Draws a line with a shadow, and with a highlight along its middle.
fn line(canvas: &mut Canvas, points: &[Point], first: f32, last: f32, color: Color) {
    let pose = Pose::new(at(0.0, 0.0), 0.0, 1.0);
    let shape = limb(points, first, last);
    canvas.fill(&pose.moved(at(1.5, 2.0)), &shape, 3.0, 0.35, |_| {
        [0.05, 0.05, 0.04]
    });
    canvas.fill(&pose, &shape, 1.0, 1.0, |spot| {
        lit(color, 0.7 + 0.5 * (spot.depth / first).min(1.0))
    });
}

fn twig(canvas: &mut Canvas, stream: &mut Stream) {
    let side = canvas.side();
    let mut heading = stream.unit();
    let mut points = vec![anywhere(stream, canvas)];
    for _ in 0..stream.count(2, 5) {
        heading += stream.around(0.0, 0.09);
        let last = points[points.len() - 1];
        points.push(last + direction(heading) * (side * stream.between(0.12, 0.3)));
    }
    let width = side * stream.between(0.008, 0.03);
    let color = lit([0.42, 0.33, 0.25], stream.between(0.4, 1.5));
    line(canvas, &points, width, width * 0.5, color);
    if stream.chance(0.5) {
        let fork = points[1];
        let tip = fork + direction(heading + 0.12 * stream.sign()) * (side * 0.25);
        line(canvas, &[fork, tip], width * 0.7, width * 0.3, color);
    }
}

fn stalk(canvas: &mut Canvas, stream: &mut Stream, color: Color, thin: f32, thick: f32) {
    let side = canvas.side();
    let foot = anywhere(stream, canvas);
    let along = direction(stream.unit()) * (side * stream.between(0.3, 1.2));
    let bend = along.rotated() * stream.around(0.0, 0.3);
    let tint = lit(color, stream.between(0.65, 1.35));
    let width = side * stream.between(thin, thick);
    let points = [foot, foot + along * 0.5 + bend, foot + along];
    line(canvas, &points, width, width * 0.15, tint);
}

fn pebbles(canvas: &mut Canvas, stream: &mut Stream, max: usize, largest: f32) {
    for _ in 0..stream.count(1, max) {
        let radius = canvas.side() * stream.between(largest * 0.2, largest);
        let pose = Pose::new(anywhere(stream, canvas), stream.unit(), radius);
        let color = mix(ground(stream), [0.5, 0.48, 0.45], 0.5);
        let stone = ellipse(at(0.0, 0.0), 1.0, stream.between(0.5, 1.0));
        let shade = pose.moved(at(radius * 0.15, radius * 0.2));
        canvas.fill(&shade, &stone, 2.5, 0.4, |_| [0.04, 0.04, 0.04]);
        canvas.fill(&pose, &stone, 1.0, 1.0, |spot| {
            lit(color, 0.65 + 0.6 * spot.depth)
        });
    }
}

fn blossom(canvas: &mut Canvas, stream: &mut Stream) {
    let radius = canvas.side() * stream.between(0.05, 0.16);
    let place = anywhere(stream, canvas);
    let color = stream.pick(&[
        [0.92, 0.90, 0.86],
        [0.90, 0.78, 0.25],
        [0.82, 0.45, 0.60],
        [0.60, 0.48, 0.82],
    ]);
    let petals = stream.count(4, 8);
    for i in 0..petals {
        let pose = Pose::new(place, i as f32 / petals as f32, radius);
        let petal = blade(at(0.1, 0.0), at(1.0, 0.0), 0.32, profile::paddle);
        canvas.fill(&pose, &petal, 1.0, 1.0, |spot| lit(color, 0.7 + spot.depth));
    }
    let pose = Pose::new(place, 0.0, radius);
    canvas.fill(&pose, &disc(at(0.0, 0.0), 0.25), 1.0, 1.0, |_| {
        [0.72, 0.55, 0.15]
    });
}

fn fallen_leaf(canvas: &mut Canvas, stream: &mut Stream) {
    let length = canvas.side() * stream.between(0.2, 0.5);
    let pose = Pose::new(anywhere(stream, canvas), stream.unit(), length);
    let color = ground(stream);
    let leaf = blade(
        at(-0.5, 0.0),
        at(0.5, 0.0),
        stream.between(0.12, 0.25),
        profile::leaf,
    );
    canvas.fill(&pose.moved(at(2.0, 2.0)), &leaf, 3.0, 0.3, |_| {
        [0.05, 0.05, 0.04]
    });
    canvas.fill(&pose, &leaf, 1.0, 1.0, |spot| {
        lit(
            color,
            if spot.at.y.abs() < 0.012 {
                1.3
            } else {
                0.85 + spot.depth
            },
        )
    });
}

fn veins(canvas: &mut Canvas, stream: &mut Stream, color: Color) {
    let side = canvas.side();
    let pose = Pose::new(anywhere(stream, canvas), stream.unit(), side);
    let main: Shape = limb(&[at(-2.0, 0.0), at(2.0, 0.0)], 0.012, 0.012);
    canvas.fill(&pose, &main, 1.5, 0.7, |_| color);
    let (gap, slant) = (stream.between(0.15, 0.3), stream.between(0.3, 0.9));
    for i in -8..8 {
        for half in [-1.0, 1.0] {
            let foot = at(i as f32 * gap, 0.0);
            let vein = limb(&[foot, foot + at(slant, half)], 0.006, 0.003);
            canvas.fill(&pose, &vein, 1.5, 0.5, |_| color);
        }
    }
}
