//! Measures how the speed of VGG-16's convolutions depends on batch size and image size.
//!
//! ```sh
//! cargo run --release -p vgg --example scaling                   # prints two tables
//! cargo run --release -p vgg --example scaling -- scaling.svg    # also writes a plot
//! ```

use std::fmt::Write as _;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use vgg::{Vgg, VggConfig, init};

const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const SIDES: [usize; 8] = [64, 96, 128, 160, 224, 320, 448, 512];

/// For each batch size or image size: the size, and the images per second in the forward pass and
/// in the forward and backward pass.
type Line = Vec<(usize, f64, f64)>;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (frozen, training) = (network(false)?, network(true)?);
    let measure = |n: usize, side: usize| -> Result<(f64, f64)> {
        let x = images(n, side)?;
        let forward = speed(n, || frozen.features(&x))?;
        let step = speed(n, || {
            let y = training.features(&x)?;
            y.backward().map(|_| y)
        })?;
        Ok((forward, step))
    };
    let mut by_batch = Line::new();
    println!(
        "| images at 224x224 | forward, images/s | forward and backward, images/s |\n|---|---|---|"
    );
    for n in BATCHES {
        let (forward, step) = measure(n, 224)?;
        println!("| {n} | {forward:.1} | {step:.1} |");
        by_batch.push((n, forward, step));
    }
    let mut by_side = Line::new();
    println!(
        "\n| image size in pixels, 8 images | forward, images/s | forward and backward, images/s |\n|---|---|---|"
    );
    for side in SIDES {
        let (forward, step) = measure(8, side)?;
        println!("| {side} | {forward:.1} | {step:.1} |");
        by_side.push((side, forward, step));
    }
    if let Some(file) = std::env::args_os().nth(1) {
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"340\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"860\" height=\"340\" fill=\"white\"/>\n",
        );
        panel(&mut svg, 0.0, "batch size at 224x224", &by_batch)?;
        panel(&mut svg, 430.0, "image size in pixels, 8 images", &by_side)?;
        svg.push_str("</svg>\n");
        std::fs::write(file, svg)?;
    }
    Ok(())
}

/// Builds VGG-16 with a small classifier, which this example does not run.
fn network(trainable: bool) -> std::result::Result<Vgg, Box<dyn std::error::Error>> {
    let config = VggConfig {
        hidden: 8,
        ..VggConfig::vgg16(2)
    };
    let mut tensors = init::from_scratch(&config, 1, &Device::Cpu)?;
    for tensor in tensors.values_mut().filter(|_| trainable) {
        *tensor = Var::from_tensor(tensor)?.into_inner();
    }
    let vb = VarBuilder::from_tensors(tensors.into_iter().collect(), DType::F32, &Device::Cpu);
    Ok(Vgg::new(&config, vb)?)
}

fn images(n: usize, side: usize) -> Result<Tensor> {
    let value = |at: usize| (at * 7919 % 2003) as f32 / 500.0 - 2.0;
    let values = (0..n * 3 * side * side).map(value).collect();
    Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu)
}

/// Returns the images per second of the fastest run. After a warm-up, repeats `run` for at least
/// one second.
fn speed(n: usize, mut run: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    run()?;
    let (started, mut best) = (Instant::now(), 0f64);
    while started.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        run()?;
        best = best.max(n as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Draws the two curves of `line` on logarithmic axes.
fn panel(svg: &mut String, left: f64, title: &str, line: &Line) -> std::fmt::Result {
    let values = || line.iter().flat_map(|&(_, forward, step)| [forward, step]);
    let low = values().fold(f64::MAX, f64::min).log2().floor();
    let high = values().fold(f64::MIN, f64::max).log2().ceil();
    let (first, last) = (line[0].0 as f64, line[line.len() - 1].0 as f64);
    let x = |n: usize| left + 50.0 + 350.0 * (n as f64 / first).log2() / (last / first).log2();
    let y = |speed: f64| 290.0 - 240.0 * (speed.log2() - low) / (high - low);
    writeln!(
        svg,
        "<text x=\"{}\" y=\"24\">images per second by {title}</text>",
        left + 50.0
    )?;
    for power in low as i32..=high as i32 {
        let (speed, at) = (2f64.powi(power), y(2f64.powi(power)));
        writeln!(
            svg,
            "<line x1=\"{}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{speed}</text>",
            left + 50.0,
            left + 400.0,
            left + 44.0,
            at + 4.0
        )?;
    }
    for &(n, _, _) in line {
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"310\" text-anchor=\"middle\">{n}</text>",
            x(n)
        )?;
    }
    let curves = [
        (
            "forward",
            "#1f69b4",
            line.iter()
                .map(|&(n, forward, _)| (n, forward))
                .collect::<Vec<_>>(),
        ),
        (
            "forward and backward",
            "#de7814",
            line.iter().map(|&(n, _, step)| (n, step)).collect(),
        ),
    ];
    for (column, (name, color, points)) in curves.into_iter().enumerate() {
        let mut path = String::new();
        for (n, speed) in points {
            write!(path, "{:.1},{:.1} ", x(n), y(speed))?;
        }
        writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"330\" fill=\"{color}\">{name}</text>",
            left + 50.0 + 100.0 * column as f64
        )?;
    }
    Ok(())
}
