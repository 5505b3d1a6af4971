//! The gradient before ReLU and pool from the one after them, and the bias's, in one pass.

use std::ops::Range;

use super::isa::Isa;
use super::lanes::{Lanes, Task};
use super::layout::{LANES, NchwcShape};
use super::parallel::{DisjointMut, for_each_chunk};

/// The gradient before ReLU and pool from the one after them, for `n` pictures; returns the bias's, (k).
///
/// `y` and `grad` are blocked as the convolution stored them, `indices` its pool's maxima; `g` is blocked like the
/// convolution's output `to` and holds zeros, or an earlier result of the same extent.
pub(super) fn relu_pool_backward(
    isa: Isa,
    y: &[f32],
    grad: &[f32],
    indices: Option<&[u8]>,
    to: NchwcShape,
    g: &mut [f32],
) -> Vec<f64> {
    let stored = if indices.is_some() { to.pooled() } else { to };
    assert_eq!(
        (y.len(), grad.len(), g.len()),
        (stored.len(), stored.len(), to.len())
    );
    let planes = to.n * to.channel_blocks();
    let mut bias = vec![0f64; planes * LANES];
    let (sums, out) = (DisjointMut::new(&mut bias), DisjointMut::new(g));
    for_each_chunk(planes, |planes| {
        // SAFETY: `isa` was available when it was chosen; each plane is written by the one part that has it.
        unsafe {
            isa.run(ReluPoolBackwardTask {
                y: y.as_ptr(),
                grad: grad.as_ptr(),
                indices: indices.map_or(std::ptr::null(), <[u8]>::as_ptr),
                to,
                stored,
                g: out.slice_ptr(0, to.len()),
                bias: sums.slice_ptr(planes.start * LANES, planes.len() * LANES),
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

struct ReluPoolBackwardTask {
    y: *const f32,
    grad: *const f32,
    indices: *const u8,
    to: NchwcShape,
    stored: NchwcShape,
    planes: Range<usize>,
    g: *mut f32,
    bias: *mut f64,
}

impl Task for ReluPoolBackwardTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let pools = !self.indices.is_null();
        for (place, plane) in self.planes.clone().enumerate() {
            let from = plane * self.stored.plane_len() + self.stored.origin();
            let to = plane * self.to.plane_len() + self.to.origin();
            let mut sums = [0f64; LANES];
            for row in 0..self.stored.h {
                // SAFETY: the lanes' promise; rows and columns lie within the planes.
                unsafe {
                    let mut sum = L::splat(0.0);
                    for column in 0..self.stored.w {
                        let at = from + row * self.stored.row_stride() + column * LANES;
                        let g =
                            L::where_positive(L::load(self.grad.add(at)), L::load(self.y.add(at)));
                        sum = L::add(sum, g);
                        if pools {
                            for index in 0..4 {
                                let (i, j) = (2 * row + index / 2, 2 * column + index % 2);
                                let part = L::where_index(g, self.indices.add(at), index as u8);
                                L::store(
                                    self.g.add(to + i * self.to.row_stride() + j * LANES),
                                    part,
                                );
                            }
                        } else {
                            L::store(
                                self.g.add(to + row * self.to.row_stride() + column * LANES),
                                g,
                            );
                        }
                    }
                    // A row in single precision, rows in double: the error does not grow with the picture.
                    let mut lanes = [0f32; LANES];
                    L::store(lanes.as_mut_ptr(), sum);
                    sums.iter_mut()
                        .zip(lanes)
                        .for_each(|(sum, lane)| *sum += f64::from(lane));
                }
            }
            for (lane, sum) in sums.into_iter().enumerate() {
                // SAFETY: the plane's sixteen sums.
                unsafe { *self.bias.add(place * LANES + lane) = sum };
            }
        }
    }
}
