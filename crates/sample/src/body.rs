//! Drawing functions shared by animals, plants and objects: colors, shadows, shaded body parts,
//! thin limbs, legs and transparent wings.

use crate::canvas::{Canvas, Color, lit, mix};
use crate::plane::{Point, Pose, at, direction};
use crate::shape::{Shape, blade, limb, profile};
use crate::stream::Stream;

/// Body colors of insects: black, browns, rust, amber, ochre and gray.
const BODIES: [Color; 7] = [
    [0.10, 0.09, 0.09],
    [0.20, 0.14, 0.10],
    [0.34, 0.20, 0.11],
    [0.50, 0.25, 0.10],
    [0.68, 0.42, 0.12],
    [0.60, 0.50, 0.28],
    [0.32, 0.31, 0.30],
];

/// Color of eyes.
pub(crate) const EYE: Color = [0.05; 3];

/// The colors and the shadow of one drawing.
pub(crate) struct Coat {
    pub main: Color,
    pub second: Color,
    pub legs: Color,
    /// Offset of shadows in pixels.
    pub shadow: Point,
}

impl Coat {
    /// Random colors from the palette shared by ants and bees.
    pub fn natural(stream: &mut Stream, pose: &Pose) -> Self {
        Self::of(stream, pose, &BODIES)
    }

    /// Natural colors with a probability of 0.4, otherwise random ones.
    pub fn vivid(stream: &mut Stream, pose: &Pose) -> Self {
        if stream.chance(0.4) {
            return Self::natural(stream, pose);
        }
        let any = [(); 4].map(|()| [(); 3].map(|()| stream.between(0.08, 0.95)));
        Self::of(stream, pose, &any)
    }

    fn of(stream: &mut Stream, pose: &Pose, palette: &[Color]) -> Self {
        let tone = |stream: &mut Stream| {
            let base = lit(stream.pick(palette), stream.around(1.0, 0.3));
            base.map(|c| c + stream.around(0.0, 0.03))
        };
        let main = tone(stream);
        let second = if stream.chance(0.6) {
            tone(stream)
        } else {
            lit(main, stream.between(0.7, 1.3))
        };
        let legs = lit(mix(main, second, stream.unit()), stream.between(0.7, 1.1));
        let shadow = direction(stream.unit()) * (pose.scale() * stream.between(0.02, 0.08));
        Self {
            main,
            second,
            legs,
            shadow,
        }
    }

    /// The second color, or one derived from the main color if the two are too similar.
    pub fn contrast(&self) -> Color {
        let (main, second) = (self.main, self.second);
        let near = (0..3).map(|c| (main[c] - second[c]).abs()).sum::<f32>() < 0.35;
        let bright = main.iter().sum::<f32>() > 0.9;
        match (near, bright) {
            (true, true) => lit(main, 0.35),
            (true, false) => mix(lit(main, 2.2), [0.62, 0.50, 0.30], 0.3),
            (false, _) => second,
        }
    }
}

/// Draws a soft shadow of `shape`.
pub(crate) fn shadow(canvas: &mut Canvas, pose: &Pose, coat: &Coat, shape: &Shape) {
    let edge = (pose.scale() * 0.06).max(2.0);
    canvas.fill(&pose.moved(coat.shadow), shape, edge, 0.4, |_| [0.03; 3]);
}

/// Fills `shape` with a color that gets brighter up to `radius` from its edge, and with highlights
/// of strength `gloss`, so that it looks round.
pub(crate) fn part(
    canvas: &mut Canvas,
    pose: &Pose,
    shape: &Shape,
    radius: f32,
    gloss: f32,
    paint: impl Fn(Point) -> Color,
) {
    canvas.fill(pose, shape, 1.0, 1.0, |spot| {
        let round = (spot.depth / radius).min(1.0);
        let shine = gloss * (round - 0.6).max(0.0);
        mix(lit(paint(spot.at), 0.6 + 0.55 * round), [1.0; 3], shine)
    });
}

/// Draws a leg or antenna through `points`, with a radius that changes from `first` to `last`.
pub(crate) fn thin(
    canvas: &mut Canvas,
    pose: &Pose,
    coat: &Coat,
    points: &[Point],
    first: f32,
    last: f32,
) {
    // Thinner lines would be invisible.
    let min = 0.45 / pose.scale();
    let shape = limb(points, first.max(min), last.max(min));
    canvas.fill(&pose.moved(coat.shadow), &shape, 2.0, 0.2, |_| [0.03; 3]);
    canvas.fill(pose, &shape, 1.0, 0.95, |_| coat.legs);
}

/// Draws pairs of legs, and omits each leg with a probability of 0.06. `feet` contains, for each
/// pair, its x position on the body and its direction in turns.
pub(crate) fn legs(
    canvas: &mut Canvas,
    stream: &mut Stream,
    pose: &Pose,
    coat: &Coat,
    feet: &[(f32, f32)],
    length: f32,
    thick: f32,
) {
    for &(x, lean) in feet {
        for side in [-1.0, 1.0] {
            if stream.chance(0.06) {
                continue;
            }
            let turn = lean + stream.around(0.0, 0.07);
            let reach = length * stream.around(1.0, 0.25);
            let thigh = direction(turn * 0.6 + 0.25 * 0.4);
            let shin = direction(turn + 0.03 * stream.sign());
            let foot = direction(turn * 1.15);
            let flip = |p: Point| at(p.x, p.y * side);
            let hip = at(x, 0.05 * side);
            let knee = hip + flip(thigh) * (0.42 * reach);
            let ankle = knee + flip(shin) * (0.40 * reach);
            let toe = ankle + flip(foot) * (0.22 * reach);
            thin(
                canvas,
                pose,
                coat,
                &[hip, knee, ankle, toe],
                thick,
                thick * 0.45,
            );
        }
    }
}

/// Draws two pairs of transparent wings. `spread` is the angle of the fore wings to the body, in
/// turns.
pub(crate) fn wings(
    canvas: &mut Canvas,
    stream: &mut Stream,
    pose: &Pose,
    root: f32,
    spread: f32,
    length: f32,
    alpha: f32,
) {
    let tint = stream.pick(&[[0.86, 0.88, 0.90], [0.75, 0.72, 0.66], [0.62, 0.60, 0.58]]);
    for side in [-1.0, 1.0] {
        let own = spread + stream.around(0.0, 0.03);
        for (turn, reach, wide, x) in [(own * 0.8, 0.72, 0.11, root - 0.06), (own, 1.0, 0.14, root)]
        {
            let wing = pose.inner(at(x, 0.06 * side), 0.5 - turn * side, length * reach);
            let shape = blade(
                at(0.0, 0.0),
                at(1.0, 0.0),
                wide / length.max(0.4),
                profile::paddle,
            );
            canvas.fill(&wing, &shape, 1.2, alpha, |spot| {
                lit(tint, if spot.depth < 0.03 { 0.6 } else { 1.0 })
            });
            for (end, rise) in [(0.9, 0.05), (0.75, -0.07)] {
                let vein = limb(
                    &[at(0.0, 0.0), at(end * 0.5, rise), at(end, rise * 1.2)],
                    0.010,
                    0.006,
                );
                canvas.fill(&wing, &vein, 1.2, alpha * 0.7, |_| lit(tint, 0.4));
            }
        }
    }
}
