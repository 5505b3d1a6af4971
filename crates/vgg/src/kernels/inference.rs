//! Runs of layers where nothing is tracked: no graph, and buffers that are used again.

use candle_core::{Device, Result, Tensor};

use super::buffer::Buffer;
use super::conv::{ConvLayer, with_values};
use super::layout::{self, NchwcShape};
use super::prepared::PreparedLayer;
use super::tuning;

/// Pictures in groups that stay in the caches: one at a time while they are large, several when they are small.
pub(super) fn forward_inference(
    x: &Tensor,
    layers: &[ConvLayer],
    shapes: &[NchwcShape],
) -> Result<Tensor> {
    let last = shapes[layers.len()];
    let ready: Vec<_> = layers
        .iter()
        .map(PreparedLayer::new)
        .collect::<Result<_>>()?;
    let group = tuning::IMAGES_PER_GROUP.min(last.n);
    // The first layers take one picture after the other, the rest a group.
    let single = shapes
        .iter()
        .take_while(|shape| shape.h * shape.w > tuning::LARGE_IMAGE_PIXELS);
    let single = single.count().min(layers.len());
    let n_of = |place: usize| if place < single { 1 } else { group };
    let places = shapes.iter().enumerate();
    let mut buffers: Vec<Buffer> = places
        .map(|(place, shape)| layout::alloc_with_halo(shape.with_n(n_of(place))))
        .collect();
    let mut y = Vec::with_capacity(last.n * last.c * last.h * last.w);
    let run = |layer: usize, n: usize, x: &[f32], y: &mut [f32]| {
        ready[layer].run(x, shapes[layer].with_n(n), y, None);
    };
    with_values(x, |x| {
        let image = shapes[0].c * shapes[0].h * shapes[0].w;
        for images in x.chunks(group * image) {
            let n = images.len() / image;
            let steps = if single == 0 { 1 } else { n };
            for (step, x) in images.chunks(images.len() / steps).enumerate() {
                let shape = shapes[0].with_n(n / steps);
                layout::pack(x, shape, &mut buffers[0][..shape.len()]);
                for layer in 0..single {
                    let (before, after) = buffers.split_at_mut(layer + 1);
                    let to = shapes[layer + 1].image_len();
                    // The last of these layers writes its picture's place in the group.
                    let at = if layer + 1 < single { 0 } else { step * to };
                    run(layer, 1, &before[layer], &mut after[0][at..at + to]);
                }
            }
            for layer in single..layers.len() {
                let (before, after) = buffers.split_at_mut(layer + 1);
                let from = shapes[layer].with_n(n).len();
                let to = shapes[layer + 1].with_n(n).len();
                run(layer, n, &before[layer][..from], &mut after[0][..to]);
            }
            let shape = last.with_n(n);
            y.extend(layout::unpack(&buffers[layers.len()][..shape.len()], shape));
        }
    })?;
    Tensor::from_vec(y, (last.n, last.c, last.h, last.w), &Device::Cpu)
}
