//! The two passes of a resize in portable Rust.

use super::filter::{BITS, Filter, HALF, Rows};

/// The horizontal pass.
pub(super) fn horizontal<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    for (index, to) in target.enumerate() {
        let (from, _) = source.row(index).as_chunks::<3>();
        let (to, _) = to.as_chunks_mut::<3>();
        for (pixel, (start, weights)) in to.iter_mut().zip(filter.outputs()) {
            let mut sum = [HALF; 3];
            for (&[r, g, b], &weight) in from[start..start + weights.len()].iter().zip(weights) {
                sum[0] += i32::from(r) * weight;
                sum[1] += i32::from(g) * weight;
                sum[2] += i32::from(b) * weight;
            }
            *pixel = sum.map(|sum| (sum >> BITS) as u8);
        }
    }
}

/// The vertical pass. Inlining lets the compiler vectorize it with the target features of its
/// callers.
#[inline(always)]
pub(super) fn vertical<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    const LANES: usize = 32;
    for (to, (start, weights)) in target.zip(filter.outputs()) {
        let (blocks, rest) = to.as_chunks_mut::<LANES>();
        let blocks_end = blocks.len() * LANES;
        for (block, to) in blocks.iter_mut().enumerate() {
            let mut sum = [HALF; LANES];
            for (tap, &weight) in weights.iter().enumerate() {
                let from = &source.row(start + tap)[block * LANES..][..LANES];
                for (sum, &byte) in sum.iter_mut().zip(from) {
                    *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
                }
            }
            for (byte, sum) in to.iter_mut().zip(sum) {
                *byte = (sum >> BITS) as u8;
            }
        }
        for (at, byte) in (blocks_end..).zip(rest) {
            let taps = (start..).zip(weights);
            let sum: i32 = taps
                .map(|(row, weight)| i32::from(source.row(row)[at]) * weight)
                .sum();
            *byte = ((HALF + sum) >> BITS) as u8;
        }
    }
}
