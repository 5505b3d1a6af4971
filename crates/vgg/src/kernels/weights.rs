//! Kernels (k, c, 3, 3) to transformed weights and back.

use std::ops::Range;

use super::buffer::Buffer;
use super::isa::Isa;
use super::lanes::{Lanes, Portable, Task};
use super::layout::LANES;
use super::parallel::{DisjointMut, for_each_chunk};
use super::transform::{Kernel, KernelGradient, POSITIONS, both, load};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512, buffer::with_scratch};

/// Which convolution weights are for: they say where tap t of (output o, input i) lies in (k, c, 3, 3).
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelLayout {
    pub outputs: usize,
    pub inputs: usize,
    output_stride: usize,
    input_stride: usize,
    rotated: bool,
}

impl KernelLayout {
    /// The convolution itself: outputs k, inputs c.
    pub(super) fn forward(k: usize, c: usize) -> Self {
        Self {
            outputs: k,
            inputs: c,
            output_stride: 9 * c,
            input_stride: 9,
            rotated: false,
        }
    }

    /// The convolution of its input gradient: outputs c, inputs k, the kernel turned by 180°.
    pub(super) fn backward(k: usize, c: usize) -> Self {
        Self {
            outputs: c,
            inputs: k,
            output_stride: 9,
            input_stride: 9 * c,
            rotated: true,
        }
    }

    fn at(self, output: usize, input: usize, tap: usize) -> usize {
        let tap = if self.rotated { 8 - tap } else { tap };
        output * self.output_stride + input * self.input_stride + tap
    }
}

/// Weights as the products take them: `[output / group][position][input][group]`, zero beyond the last output.
pub(super) struct TransformedWeights {
    pub values: Buffer,
    pub isa: Isa,
}

impl std::fmt::Debug for TransformedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values for {}", self.values.len(), self.isa.name())
    }
}

/// With so few input channels AMX, which takes 32 at a time, is slower than AVX-512.
#[cfg(target_arch = "x86_64")]
const FEW_INPUTS: usize = 12;

/// Output channels that one product computes together on this isa.
pub(super) fn microkernel_channels(isa: Isa) -> usize {
    let vectors = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => Avx512::GROUPS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::GROUPS,
        _ => Portable::GROUPS,
    };
    vectors * LANES
}

/// Tiles that one product computes together on this isa.
pub(super) fn microkernel_tiles(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => super::amx_gemm::BLOCK,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Avx512::TILES,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::TILES,
        _ => Portable::TILES,
    }
}

/// Transforms `weight`.
pub(super) fn transform(isa: Isa, weight: &[f32], kernels: KernelLayout) -> TransformedWeights {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Amx && kernels.inputs > FEW_INPUTS {
        return transform_and_split(weight, kernels);
    }
    let isa = if isa == Isa::Amx { Isa::Avx512 } else { isa };
    let width = microkernel_channels(isa);
    let groups = kernels.outputs.div_ceil(width);
    let size = POSITIONS * kernels.inputs * width;
    // Every element is written: the lanes beyond the last output with zeros.
    let mut values = Buffer::alloc(groups * size);
    let to = DisjointMut::new(&mut values);
    // In units of (group, input), so that few groups still give work to all threads.
    for_each_chunk(groups * kernels.inputs, |units| {
        // SAFETY: `isa` was available when it was chosen. A unit writes the elements of its group and input
        // alone, and reads within `weight`, whose size `KernelLayout` describes.
        unsafe {
            isa.run(TransformTask {
                weight: weight.as_ptr(),
                kernels,
                units,
                first: 0,
                to: to.slice_ptr(0, groups * size),
            });
        }
    });
    TransformedWeights { values, isa }
}

/// As [`transform`], for AMX: a group is transformed in the cache and then taken apart.
#[cfg(target_arch = "x86_64")]
fn transform_and_split(weight: &[f32], kernels: KernelLayout) -> TransformedWeights {
    use super::amx_gemm::{split_weights, weights_bytes};

    let isa = Isa::Amx;
    let groups = kernels.outputs.div_ceil(microkernel_channels(isa));
    let size = POSITIONS * kernels.inputs * microkernel_channels(isa);
    let split_len = POSITIONS * weights_bytes(kernels.inputs) / 4;
    let mut values = Buffer::alloc(groups * split_len);
    let to = DisjointMut::new(&mut values);
    for_each_chunk(groups, |groups| {
        with_scratch(size, |u| {
            for group in groups {
                // SAFETY: `isa` was available when it was chosen. The group is transformed into `u`, which has
                // room for it, and taken apart to where no other part writes.
                unsafe {
                    isa.run(TransformTask {
                        weight: weight.as_ptr(),
                        kernels,
                        units: group * kernels.inputs..(group + 1) * kernels.inputs,
                        first: group,
                        to: u.as_mut_ptr(),
                    });
                    let to = to.slice_ptr(group * split_len, split_len);
                    split_weights(u.as_ptr(), kernels.inputs, to);
                }
            }
        });
    });
    TransformedWeights { values, isa }
}

struct TransformTask {
    weight: *const f32,
    kernels: KernelLayout,
    units: Range<usize>,
    /// The group that lies at `to`.
    first: usize,
    to: *mut f32,
}

impl Task for TransformTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let KernelLayout {
            outputs, inputs, ..
        } = self.kernels;
        let width = L::GROUPS * LANES;
        for unit in self.units {
            let (group, input) = (unit / inputs, unit % inputs);
            for part in 0..L::GROUPS {
                let first = group * width + part * LANES;
                let count = LANES.min(outputs.saturating_sub(first));
                let mut taps = [[0f32; LANES]; 9];
                for lane in 0..count {
                    for (tap, taps) in taps.iter_mut().enumerate() {
                        // SAFETY: output, input and tap are within the weights.
                        taps[lane] =
                            unsafe { *self.weight.add(self.kernels.at(first + lane, input, tap)) };
                    }
                }
                // SAFETY: the lanes' promise; the target is the unit's place in `to`.
                unsafe {
                    let g = load::<L, 3>(taps.as_ptr().cast(), 3 * LANES, LANES);
                    let u = both::<L, Kernel, 3, 6>(g);
                    for position in 0..POSITIONS {
                        let at = (((group - self.first) * POSITIONS + position) * inputs + input)
                            * width
                            + part * LANES;
                        L::store(self.to.add(at), u[position / 6][position % 6]);
                    }
                }
            }
        }
    }
}

/// Sums at the positions, `[position][c / 16][k / group][16 c][group]`, to the gradient (k, c, 3, 3).
pub(super) fn gradient(isa: Isa, sums: &[f32], k: usize, c: usize) -> Vec<f32> {
    let mut gradient = vec![0f32; k * c * 9];
    let len = gradient.len();
    let to = DisjointMut::new(&mut gradient);
    // By input channel: those of a block of sixteen lie side by side.
    for_each_chunk(c, |channels| {
        // SAFETY: `isa` was available when it was chosen. A channel's elements are written by one part alone.
        unsafe {
            isa.run(WeightGradientTask {
                sums: sums.as_ptr(),
                k,
                c,
                channels,
                to: to.slice_ptr(0, len),
            });
        }
    });
    gradient
}

struct WeightGradientTask {
    sums: *const f32,
    k: usize,
    c: usize,
    channels: Range<usize>,
    to: *mut f32,
}

impl Task for WeightGradientTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = L::GROUPS * LANES;
        let groups = self.k.div_ceil(width);
        let position = self.c.div_ceil(LANES) * groups * LANES * width;
        for channel in self.channels {
            let (block, lane) = (channel / LANES, channel % LANES);
            for vector in 0..self.k.div_ceil(LANES) {
                let (group, part) = (vector / L::GROUPS, vector % L::GROUPS);
                let at = ((block * groups + group) * LANES + lane) * width + part * LANES;
                // SAFETY: the lanes' promise; `at` lies within a position, `position` elements long.
                unsafe {
                    let u = load::<L, 6>(self.sums.add(at), 6 * position, position);
                    let g = both::<L, KernelGradient, 6, 3>(u);
                    for tap in 0..9 {
                        let mut lanes = [0f32; LANES];
                        L::store(lanes.as_mut_ptr(), g[tap / 3][tap % 3]);
                        let outputs = vector * LANES..self.k.min((vector + 1) * LANES);
                        for (output, value) in outputs.zip(lanes) {
                            *self.to.add((output * self.c + channel) * 9 + tap) = value;
                        }
                    }
                }
            }
        }
    }
}
