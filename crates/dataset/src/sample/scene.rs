//! Where things sit: backgrounds, clutter before and behind them, light and the camera's flaws.
//!
//! Both target classes and all pretraining classes share these, so that a background says nothing about a class.

use super::canvas::{Canvas, Colour, lit, mix};
use super::plane::{Point, Pose, at, bell, direction};
use super::shape::{Shape, blade, disc, ellipse, limb, profile};
use super::stream::Stream;
use super::texture::{cloud, noise};

/// Ground colours: greens, soils, bark, stone, sand, petals, sky.
const GROUNDS: [Colour; 16] = [
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

/// A ground colour, a little off the table.
fn ground(stream: &mut Stream) -> Colour {
    let base = stream.pick(&GROUNDS);
    let light = stream.around(1.0, 0.25);
    base.map(|c| c * light + stream.around(0.0, 0.06))
}

/// A background of `width` × `height` pixels.
pub(super) fn background(stream: &mut Stream, width: usize, height: usize) -> Canvas {
    let (a, mut b) = (ground(stream), ground(stream));
    if stream.chance(0.85) {
        // Mostly two shades of one surface, not two surfaces.
        b = mix(lit(a, stream.between(0.7, 1.25)), b, 0.15);
    }
    let key = stream.bits();
    let side = width.min(height) as f32;
    let axis = direction(stream.unit());
    let turned = move |p: Point| at(p.dot(axis), p.dot(axis.across()));
    match stream.count(0, 6) {
        0 => {
            // Soil: clouds and grains.
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
            // Bark or wood: noise drawn out along one direction.
            let (wide, long) = (stream.between(8.0, 20.0), stream.between(1.0, 2.5));
            Canvas::new(width, height, |p| {
                let q = turned(p) * (1.0 / side);
                mix(a, b, cloud(at(q.x * wide, q.y * long), key, 3))
            })
        }
        2 => {
            // A leaf seen close up, with its veins.
            let mut canvas = Canvas::new(width, height, |p| {
                mix(a, b, cloud(p * (3.0 / side), key, 2))
            });
            veins(&mut canvas, stream, lit(a, 1.25));
            canvas
        }
        3 => {
            // Out of focus: a gradient with large soft spots.
            let mut canvas = Canvas::new(width, height, |p| {
                mix(a, b, 0.5 + turned(p).x / (2.0 * side))
            });
            for _ in 0..stream.count(4, 12) {
                let colour = ground(stream);
                let place = anywhere(stream, &canvas);
                let pose = Pose::new(place, 0.0, side * stream.between(0.1, 0.35));
                let (edge, alpha) = (side * stream.between(0.1, 0.3), stream.between(0.2, 0.6));
                canvas.fill(&pose, &disc(at(0.0, 0.0), 1.0), edge, alpha, |_| colour);
            }
            canvas
        }
        4 => {
            // Inside a flower: broad petals from a centre.
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
            // Grass: many blades, one over the other.
            let mut canvas = Canvas::new(width, height, |_| lit(a, 0.8));
            for _ in 0..stream.count(12, 30) {
                stalk(&mut canvas, stream, mix(a, b, 0.5), 0.02, 0.05);
            }
            canvas
        }
        _ => {
            // Stone or sand: fine speckles on a slow gradient.
            let (fine, contrast) = (stream.between(0.2, 0.7), stream.between(0.05, 0.35));
            Canvas::new(width, height, |p| {
                let slow = mix(a, b, cloud(p * (2.0 / side), key, 2));
                lit(slow, 1.0 + contrast * (cloud(p * fine, key ^ 7, 2) - 0.5))
            })
        }
    }
}

/// Twigs, stalks, stones, blossoms and drops; `pieces` at most.
pub(super) fn clutter(canvas: &mut Canvas, stream: &mut Stream, pieces: usize) {
    for _ in 0..stream.count(0, pieces) {
        match stream.count(0, 4) {
            0 => twig(canvas, stream),
            1 => {
                let colour = ground(stream);
                stalk(canvas, stream, colour, 0.01, 0.05);
            }
            2 => pebbles(canvas, stream, 5, 0.14),
            3 => blossom(canvas, stream),
            _ => fallen_leaf(canvas, stream),
        }
    }
}

/// A stalk or twig that crosses `target`, before it.
pub(super) fn obstacle(canvas: &mut Canvas, stream: &mut Stream, target: Point) {
    let colour = ground(stream);
    let side = canvas.side();
    let along = direction(stream.unit());
    let middle = target + at(stream.around(0.0, 0.25), stream.around(0.0, 0.25)) * side;
    let bend = along.across() * (side * stream.around(0.0, 0.2));
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
        colour,
    );
}

/// Light from one side, exposure, the camera's blur and noise.
pub(super) fn photograph(mut canvas: Canvas, stream: &mut Stream) -> image::RgbImage {
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
    canvas.change(|p, colour| {
        let across = (p - size * 0.5).dot(from) / size.length();
        let light = exposure * (1.0 + slope * 2.0 * across);
        let bright = glare * bell((p - spot).length() / (0.35 * size.length()));
        [0, 1, 2].map(|c| 0.45 + (colour[c] * light * cast[c] + bright - 0.45) * contrast)
    });
    let times = stream.pick(&[0, 0, 1, 1, 2]);
    canvas.blur(stream.between(0.08, 0.25), times);
    let noise = stream.between(0.0, 0.05);
    canvas.develop(stream, noise)
}

fn anywhere(stream: &mut Stream, canvas: &Canvas) -> Point {
    let size = canvas.size();
    at(stream.unit() * size.x, stream.unit() * size.y)
}

/// A bent line with a shadow beside it and a bright ridge.
fn line(canvas: &mut Canvas, points: &[Point], first: f32, last: f32, colour: Colour) {
    let pose = Pose::new(at(0.0, 0.0), 0.0, 1.0);
    let shape = limb(points, first, last);
    canvas.fill(&pose.moved(at(1.5, 2.0)), &shape, 3.0, 0.35, |_| {
        [0.05, 0.05, 0.04]
    });
    canvas.fill(&pose, &shape, 1.0, 1.0, |spot| {
        lit(colour, 0.7 + 0.5 * (spot.depth / first).min(1.0))
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
    let colour = lit([0.42, 0.33, 0.25], stream.between(0.4, 1.5));
    line(canvas, &points, width, width * 0.5, colour);
    if stream.chance(0.5) {
        let fork = points[1];
        let tip = fork + direction(heading + 0.12 * stream.sign()) * (side * 0.25);
        line(canvas, &[fork, tip], width * 0.7, width * 0.3, colour);
    }
}

fn stalk(canvas: &mut Canvas, stream: &mut Stream, colour: Colour, thin: f32, thick: f32) {
    let side = canvas.side();
    let foot = anywhere(stream, canvas);
    let along = direction(stream.unit()) * (side * stream.between(0.3, 1.2));
    let bend = along.across() * stream.around(0.0, 0.3);
    let tint = lit(colour, stream.between(0.65, 1.35));
    let width = side * stream.between(thin, thick);
    let points = [foot, foot + along * 0.5 + bend, foot + along];
    line(canvas, &points, width, width * 0.15, tint);
}

fn pebbles(canvas: &mut Canvas, stream: &mut Stream, most: usize, largest: f32) {
    for _ in 0..stream.count(1, most) {
        let radius = canvas.side() * stream.between(largest * 0.2, largest);
        let pose = Pose::new(anywhere(stream, canvas), stream.unit(), radius);
        let colour = mix(ground(stream), [0.5, 0.48, 0.45], 0.5);
        let stone = ellipse(at(0.0, 0.0), 1.0, stream.between(0.5, 1.0));
        let shade = pose.moved(at(radius * 0.15, radius * 0.2));
        canvas.fill(&shade, &stone, 2.5, 0.4, |_| [0.04, 0.04, 0.04]);
        canvas.fill(&pose, &stone, 1.0, 1.0, |spot| {
            lit(colour, 0.65 + 0.6 * spot.depth)
        });
    }
}

fn blossom(canvas: &mut Canvas, stream: &mut Stream) {
    let radius = canvas.side() * stream.between(0.05, 0.16);
    let place = anywhere(stream, canvas);
    let colour = stream.pick(&[
        [0.92, 0.90, 0.86],
        [0.90, 0.78, 0.25],
        [0.82, 0.45, 0.60],
        [0.60, 0.48, 0.82],
    ]);
    let petals = stream.count(4, 8);
    for i in 0..petals {
        let pose = Pose::new(place, i as f32 / petals as f32, radius);
        let petal = blade(at(0.1, 0.0), at(1.0, 0.0), 0.32, profile::paddle);
        canvas.fill(&pose, &petal, 1.0, 1.0, |spot| {
            lit(colour, 0.7 + spot.depth)
        });
    }
    let pose = Pose::new(place, 0.0, radius);
    canvas.fill(&pose, &disc(at(0.0, 0.0), 0.25), 1.0, 1.0, |_| {
        [0.72, 0.55, 0.15]
    });
}

fn fallen_leaf(canvas: &mut Canvas, stream: &mut Stream) {
    let length = canvas.side() * stream.between(0.2, 0.5);
    let pose = Pose::new(anywhere(stream, canvas), stream.unit(), length);
    let colour = ground(stream);
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
            colour,
            if spot.at.y.abs() < 0.012 {
                1.3
            } else {
                0.85 + spot.depth
            },
        )
    });
}

fn veins(canvas: &mut Canvas, stream: &mut Stream, colour: Colour) {
    let side = canvas.side();
    let pose = Pose::new(anywhere(stream, canvas), stream.unit(), side);
    let main: Shape = limb(&[at(-2.0, 0.0), at(2.0, 0.0)], 0.012, 0.012);
    canvas.fill(&pose, &main, 1.5, 0.7, |_| colour);
    let (gap, slant) = (stream.between(0.15, 0.3), stream.between(0.3, 0.9));
    for i in -8..8 {
        for half in [-1.0, 1.0] {
            let foot = at(i as f32 * gap, 0.0);
            let vein = limb(&[foot, foot + at(slant, half)], 0.006, 0.003);
            canvas.fill(&pose, &vein, 1.5, 0.5, |_| colour);
        }
    }
}
