//! Forward pass of a stack of convolutions without a graph, with reused activation buffers.

use candle_core::{Device, Result, Tensor};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::layer::{ConvLayer, PreparedLayer};
use crate::layout::{self, NchwcShape};
use crate::storage::with_values;
use crate::tuning;

/// Runs the layers on groups of images that are small enough for the caches: one image at a time in
/// the first layers, where images are large, and several images in the other layers. `shapes` holds
/// the shape of `x`, followed by the output shape of each layer.
pub(crate) fn forward_inference(
    x: &Tensor,
    layers: &[ConvLayer],
    shapes: &[NchwcShape],
) -> Result<Tensor> {
    let last = shapes[layers.len()];
    let prepared: Vec<_> = layers
        .iter()
        .map(PreparedLayer::new)
        .collect::<Result<_>>()?;
    let group = tuning::IMAGES_PER_GROUP.min(last.n);
    // Number of layers that process one image at a time.
    let single_image_layers = shapes
        .iter()
        .take_while(|shape| shape.h * shape.w > tuning::LARGE_IMAGE_PIXELS);
    let single_image_layers = single_image_layers.count().min(layers.len());
    let n_of = |index: usize| {
        if index < single_image_layers {
            1
        } else {
            group
        }
    };
    let mut buffers: Vec<Buffer> = shapes
        .iter()
        .enumerate()
        .map(|(index, shape)| layout::alloc_with_halo(shape.with_n(n_of(index))))
        .collect::<std::result::Result<_, _>>()?;
    let mut y = Vec::with_capacity(last.n * last.c * last.h * last.w);
    let run = |layer: usize, n: usize, x: &[f32], y: &mut [f32]| {
        prepared[layer].run(x, shapes[layer].with_n(n), y, None)
    };
    with_values(x, |x| {
        let image_len = shapes[0].c * shapes[0].h * shapes[0].w;
        for images in x.chunks(group * image_len) {
            let n = images.len() / image_len;
            let steps = if single_image_layers == 0 { 1 } else { n };
            for (step, x) in images.chunks(images.len() / steps).enumerate() {
                let shape = shapes[0].with_n(n / steps);
                layout::pack(x, shape, &mut buffers[0][..shape.len()]);
                for layer in 0..single_image_layers {
                    let (before, after) = buffers.split_at_mut(layer + 1);
                    let to = shapes[layer + 1].image_len();
                    // The last single-image layer writes to the image's position in the group.
                    let offset = if layer + 1 < single_image_layers {
                        0
                    } else {
                        step * to
                    };
                    run(layer, 1, &before[layer], &mut after[0][offset..offset + to])?;
                }
            }
            for layer in single_image_layers..layers.len() {
                let (before, after) = buffers.split_at_mut(layer + 1);
                let from = shapes[layer].with_n(n).len();
                let to = shapes[layer + 1].with_n(n).len();
                run(layer, n, &before[layer][..from], &mut after[0][..to])?;
            }
            let shape = last.with_n(n);
            y.extend(layout::unpack(&buffers[layers.len()][..shape.len()], shape));
        }
        Ok::<_, Error>(())
    })??;
    Tensor::from_vec(y, (last.n, last.c, last.h, last.w), &Device::Cpu)
}
