//! Winograd filter transform of convolution weights (k, c, 3, 3), and its transpose for the weight
//! gradient.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::amx_gemm;
use super::transform::{FilterGradientTransform, FilterTransform, load_square, transform_2d};
use crate::buffer::Buffer;
#[cfg(target_arch = "x86_64")]
use crate::buffer::with_scratch;
use crate::error::Error;
use crate::isa::Isa;
use crate::isa::lanes::{Lanes, Task};
use crate::isa::portable::Portable;
#[cfg(target_arch = "x86_64")]
use crate::isa::{avx2::Avx2, avx512::Avx512};
use crate::layout::{LANES, POSITIONS};
use crate::parallel::{DisjointMut, for_each_chunk, try_for_each_chunk};

/// Strides that locate a tap in a weight (k, c, 3, 3), for the convolution itself or for its input
/// gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelLayout {
    /// Number of output channels.
    pub outputs: usize,
    /// Number of input channels.
    pub inputs: usize,
    output_stride: usize,
    input_stride: usize,
    rotated: bool,
}

impl KernelLayout {
    /// Strides for the convolution from c to k channels.
    pub(crate) fn forward(k: usize, c: usize) -> Self {
        Self {
            outputs: k,
            inputs: c,
            output_stride: 9 * c,
            input_stride: 9,
            rotated: false,
        }
    }

    /// Strides for the input gradient of the convolution from c to k channels. The input gradient
    /// is a convolution from k to c channels with the kernel rotated by 180°.
    pub(crate) fn backward(k: usize, c: usize) -> Self {
        Self {
            outputs: c,
            inputs: k,
            output_stride: 9,
            input_stride: 9 * c,
            rotated: true,
        }
    }

    fn index(self, output: usize, input: usize, tap: usize) -> usize {
        let tap = if self.rotated { 8 - tap } else { tap };
        output * self.output_stride + input * self.input_stride + tap
    }
}

/// Weights in the Winograd domain, packed for the microkernel of `isa`.
///
/// `[output / group][position][input][group]`, with groups of [`microkernel_channels`] output
/// channels, padded with zeros. For [`Isa::Amx`], `amx_gemm::split_weights` splits the inner
/// `[input][group]` into bf16x3 and packs it.
pub(crate) struct TransformedWeights {
    pub values: Buffer,
    pub isa: Isa,
}

impl std::fmt::Debug for TransformedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TransformedWeights({} elements, {})",
            self.values.len(),
            self.isa.name()
        )
    }
}

/// Maximum number of input channels for which AVX-512 is faster than AMX, which pads the channels
/// to a multiple of 32.
#[cfg(target_arch = "x86_64")]
const FEW_INPUTS: usize = 12;

/// Number of output channels that one microkernel call computes.
pub(crate) fn microkernel_channels(isa: Isa) -> usize {
    let vectors = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => Avx512::GROUPS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::GROUPS,
        _ => Portable::GROUPS,
    };
    vectors * LANES
}

/// Maximum number of tiles that one microkernel call computes.
pub(crate) fn microkernel_tiles(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => amx_gemm::BLOCK,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Avx512::TILES,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::TILES,
        _ => Portable::TILES,
    }
}

/// Filter transform U = G g Gᵀ of `weight`, packed for `isa`. With at most `FEW_INPUTS` input
/// channels, it is packed for AVX-512 instead of AMX.
pub(crate) fn transform(
    isa: Isa,
    weight: &[f32],
    layout: KernelLayout,
) -> Result<TransformedWeights, Error> {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Amx && layout.inputs > FEW_INPUTS {
        return transform_and_split(weight, layout);
    }
    let isa = if isa == Isa::Amx { Isa::Avx512 } else { isa };
    let width = microkernel_channels(isa);
    let groups = layout.outputs.div_ceil(width);
    let size = POSITIONS * layout.inputs * width;
    // The task writes every element, with zeros in the lanes after the last output channel.
    let mut values = Buffer::alloc(groups * size)?;
    let to = DisjointMut::new(&mut values);
    // A unit of work is a pair of a group and an input channel, so that all threads have work even
    // if there are few groups.
    for_each_chunk(groups * layout.inputs, |units| {
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. `weight` has the size
        // that `layout` describes, and `values` has room for all groups. Chunks of units are
        // disjoint, so no other thread writes the same elements.
        unsafe {
            isa.run(TransformTask {
                weight: weight.as_ptr(),
                layout,
                units,
                first: 0,
                to: to.slice_ptr(0, groups * size),
            });
        }
    });
    Ok(TransformedWeights { values, isa })
}

/// [`transform`] for AMX. Transforms each group into scratch memory and splits it into bf16x3 while
/// it is in the cache.
#[cfg(target_arch = "x86_64")]
fn transform_and_split(weight: &[f32], layout: KernelLayout) -> Result<TransformedWeights, Error> {
    use amx_gemm::{split_weights, weights_bytes};

    let isa = Isa::Amx;
    let groups = layout.outputs.div_ceil(microkernel_channels(isa));
    let size = POSITIONS * layout.inputs * microkernel_channels(isa);
    let split_len = POSITIONS * weights_bytes(layout.inputs) / 4;
    let mut values = Buffer::alloc(groups * split_len)?;
    let to = DisjointMut::new(&mut values);
    try_for_each_chunk(groups, |groups| {
        with_scratch(size, |u| {
            for group in groups {
                // SAFETY: `ConvLayer::with_isa` checked that the CPU supports AMX, which includes
                // AVX-512. `weight` has the size that `layout` describes, and `u` has room for one
                // group. Chunks of groups are disjoint, so no other thread writes the same elements
                // of `values`.
                unsafe {
                    isa.run(TransformTask {
                        weight: weight.as_ptr(),
                        layout,
                        units: group * layout.inputs..(group + 1) * layout.inputs,
                        first: group,
                        to: u.as_mut_ptr(),
                    });
                    let to = to.slice_ptr(group * split_len, split_len);
                    split_weights(u.as_ptr(), layout.inputs, to);
                }
            }
            Ok(())
        })
    })?;
    Ok(TransformedWeights { values, isa })
}

/// The filter transform for some groups and input channels.
struct TransformTask {
    /// The weight (k, c, 3, 3).
    weight: *const f32,
    layout: KernelLayout,
    /// Pairs of a group and an input channel, numbered `group * inputs + input`.
    units: Range<usize>,
    /// Index of the first group stored at `to`.
    first: usize,
    /// The result, `[group][position][input][channels of a group]`.
    to: *mut f32,
}

impl Task for TransformTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let KernelLayout {
            outputs, inputs, ..
        } = self.layout;
        let width = L::GROUPS * LANES;
        for unit in self.units {
            let (group, input) = (unit / inputs, unit % inputs);
            for part in 0..L::GROUPS {
                let first = group * width + part * LANES;
                let count = LANES.min(outputs.saturating_sub(first));
                let mut taps = [[0f32; LANES]; 9];
                for lane in 0..count {
                    for (tap, taps) in taps.iter_mut().enumerate() {
                        // SAFETY: `first + lane < outputs`, `input < inputs` and `tap < 9`, so the
                        // index is within `weight` (contract of `run`).
                        taps[lane] = unsafe {
                            *self.weight.add(self.layout.index(first + lane, input, tap))
                        };
                    }
                }
                // SAFETY: the CPU supports the instruction set of `L`, and `to` is valid for the
                // groups of the units (contract of `run`). `taps` holds 3x3 vectors.
                unsafe {
                    let g = load_square::<L, 3>(taps.as_ptr().cast(), 3 * LANES, LANES);
                    let u = transform_2d::<L, FilterTransform, 3, 6>(g);
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

/// Transposed filter transform dW = Gᵀ dU G: `sums` is dU,
/// `[position][c / 16][k / group][16 c][group]`, and the result is (k, c, 3, 3).
pub(crate) fn gradient(isa: Isa, sums: &[f32], k: usize, c: usize) -> Vec<f32> {
    let mut gradient = vec![0f32; k * c * 9];
    let len = gradient.len();
    let to = DisjointMut::new(&mut gradient);
    // Partition by input channels, because the channels of a block of 16 are adjacent in `sums`.
    for_each_chunk(c, |channels| {
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. `WeightGradient`
        // allocated `sums` in this layout. Chunks of channels are disjoint, so no other thread
        // writes the same elements.
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

/// The transposed filter transform for some input channels.
struct WeightGradientTask {
    /// dU, `[position][c / 16][k / group][16 c][group]`.
    sums: *const f32,
    k: usize,
    c: usize,
    /// Input channels to transform.
    channels: Range<usize>,
    /// dW, (k, c, 3, 3).
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
                // SAFETY: the CPU supports the instruction set of `L`, and `sums` and `to` are
                // valid for all channels (contract of `run`). `at` is within a position, whose
                // length is `position`.
                unsafe {
                    let u = load_square::<L, 6>(self.sums.add(at), 6 * position, position);
                    let g = transform_2d::<L, FilterGradientTransform, 6, 3>(u);
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
