//! Fused backward pass of the 2x2 max pool, the ReLU and the bias.

use std::ops::Range;

use crate::isa::Isa;
use crate::isa::lanes::{Lanes, Task};
use crate::layout::{LANES, NchwcShape};
use crate::parallel::{DisjointMut, for_each_chunk};

/// The output of a layer, with the data that the backward pass of its ReLU and pool needs.
pub(crate) struct LayerOutput<'a> {
    /// The output after ReLU and pool, NCHWc16.
    pub y: &'a [f32],
    /// Index of the first maximum of each pooling window, in the layout of `y`. `None` without a
    /// pool.
    pub indices: Option<&'a [u8]>,
    /// Whether the layer has a ReLU.
    pub relu: bool,
}

/// Computes the gradient `g` of the convolution's output from `grad`, the gradient of `y`. Returns
/// the gradient of the bias, (k).
///
/// `y` and `grad` have the shape after the pool, and `g` has the shape `to`. The elements of `g`
/// outside the images and outside the pooling windows are not written and must be zero.
pub(crate) fn relu_pool_backward(
    isa: Isa,
    LayerOutput { y, indices, relu }: LayerOutput<'_>,
    grad: &[f32],
    to: NchwcShape,
    g: &mut [f32],
) -> Vec<f64> {
    let stored = if indices.is_some() { to.pooled() } else { to };
    assert_eq!(
        (y.len(), grad.len(), g.len()),
        (stored.len(), stored.len(), to.len())
    );
    assert!(indices.is_none_or(|indices| indices.len() == stored.len()));
    let planes = to.n * to.channel_blocks();
    let mut bias = vec![0f64; planes * LANES];
    let (bias_out, g_out) = (DisjointMut::new(&mut bias), DisjointMut::new(g));
    for_each_chunk(planes, |planes| {
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. The assertions above
        // check the lengths of `y`, `grad`, `g` and `indices`. Chunks are disjoint, so no other
        // thread writes these planes of `g` or their sums in `bias`.
        unsafe {
            isa.run(ReluPoolBackwardTask {
                y: y.as_ptr(),
                grad: grad.as_ptr(),
                indices: indices.map_or(std::ptr::null(), <[u8]>::as_ptr),
                relu,
                to,
                stored,
                g: g_out.slice_ptr(0, to.len()),
                bias: bias_out.slice_ptr(planes.start * LANES, planes.len() * LANES),
                planes,
            });
        }
    });
    let channels = to.channel_blocks() * LANES;
    (0..to.c)
        .map(|channel| {
            (0..to.n)
                .map(|image| bias[image * channels + channel])
                .sum()
        })
        .collect()
}

/// The computation of [`relu_pool_backward`] for a range of planes.
struct ReluPoolBackwardTask {
    /// Output of the layer, NCHWc16 of shape `stored`.
    y: *const f32,
    /// Gradient of `y`, in the layout of `y`.
    grad: *const f32,
    /// Indices of the pool's maxima, in the layout of `y`. Null without a pool.
    indices: *const u8,
    relu: bool,
    /// Shape before the pool.
    to: NchwcShape,
    /// Shape after the pool.
    stored: NchwcShape,
    /// Planes to process, counted over all images and channel blocks.
    planes: Range<usize>,
    /// Gradient of the convolution's output (before ReLU and pool), NCHWc16 of shape `to`.
    g: *mut f32,
    /// Sums of `g` per channel, 16 for each plane of `planes`.
    bias: *mut f64,
}

impl Task for ReluPoolBackwardTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let pool = !self.indices.is_null();
        for (index, plane) in self.planes.clone().enumerate() {
            let from = plane * self.stored.plane_len() + self.stored.origin();
            let to = plane * self.to.plane_len() + self.to.origin();
            let mut sums = [0f64; LANES];
            for row in 0..self.stored.h {
                // SAFETY: the CPU supports the instruction set of `L` (contract of `run`).
                // `row < stored.h` and `column < stored.w`, so each access to `y`, `grad` and
                // `indices` is inside its plane. With a pool, the accesses to `g` are inside the
                // 2x2 window of that pixel, which is inside the larger plane of `g`.
                unsafe {
                    let mut sum = L::splat(0.0);
                    for column in 0..self.stored.w {
                        let at = from + row * self.stored.row_stride() + column * LANES;
                        let mut g = L::load(self.grad.add(at));
                        if self.relu {
                            g = L::where_positive(g, L::load(self.y.add(at)));
                        }
                        sum = L::add(sum, g);
                        if pool {
                            for cell in 0..4 {
                                let (i, j) = (2 * row + cell / 2, 2 * column + cell % 2);
                                let cell_gradient =
                                    L::where_index(g, self.indices.add(at), cell as u8);
                                L::store(
                                    self.g.add(to + i * self.to.row_stride() + j * LANES),
                                    cell_gradient,
                                );
                            }
                        } else {
                            L::store(
                                self.g.add(to + row * self.to.row_stride() + column * LANES),
                                g,
                            );
                        }
                    }
                    // Sum each row in f32 and the sums of the rows in f64, so that the error does
                    // not grow with the height of the image.
                    let mut lanes = [0f32; LANES];
                    L::store(lanes.as_mut_ptr(), sum);
                    sums.iter_mut()
                        .zip(lanes)
                        .for_each(|(sum, lane)| *sum += f64::from(lane));
                }
            }
            for (lane, sum) in sums.into_iter().enumerate() {
                // SAFETY: `bias` has `LANES` elements for each plane of `planes`.
                unsafe { *self.bias.add(index * LANES + lane) = sum };
            }
        }
    }
}
