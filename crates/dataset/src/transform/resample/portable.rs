//! The two passes of a resize in portable Rust. Kernels for other instruction sets give the same
//! bytes.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::filter::{BITS, Filter, HALF, Rows};

/// Runs the horizontal pass: row `i` of the target is computed from row `i` of the source.
pub(super) fn horizontal<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU supports AVX2, as detected in the line above.
        return unsafe { avx2::horizontal(source, filter, target) };
    }
    horizontal_portable(source, filter, target);
}

/// Runs the vertical pass: each target row is a weighted sum of source rows.
pub(super) fn vertical<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU supports AVX2, as detected in the line above.
        return unsafe { avx2::vertical(source, filter, target) };
    }
    vertical_portable(source, filter, target);
}

fn horizontal_portable<'t>(
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
pub(super) fn vertical_portable<'t>(
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Pseudorandom bytes.
    fn noise(count: usize) -> Vec<u8> {
        (0..count as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect()
    }

    #[test]
    fn avx2_and_portable_passes_give_the_same_bytes() {
        if !is_x86_feature_detected!("avx2") {
            println!("skipped: this CPU has no AVX2");
            return;
        }
        for length in [1, 2, 3, 4, 5, 7, 16, 63, 200, 1000] {
            for resized in [1, 2, 3, 8, 11, 64, 224] {
                let mut filter = Filter::default();
                filter.set(length, resized, 0, resized);
                let (length, resized) = (length as usize, resized as usize);
                let rows = 3;
                // The last row ends at the end of the buffer, so that out-of-bounds reads are
                // detected.
                let image = noise(length * rows * 3);
                let source = Rows::packed(&image, length * 3);
                let mut outputs = [vec![0; resized * rows * 3], vec![1; resized * rows * 3]];
                horizontal_portable(source, &filter, outputs[0].chunks_exact_mut(resized * 3));
                horizontal(source, &filter, outputs[1].chunks_exact_mut(resized * 3));
                assert_eq!(outputs[0], outputs[1], "horizontal, {length} to {resized}");

                for width in [1, 31, 32, 33, 100] {
                    let image = noise(length * width);
                    let source = Rows::packed(&image, width);
                    let mut outputs = [vec![0; resized * width], vec![1; resized * width]];
                    vertical_portable(source, &filter, outputs[0].chunks_exact_mut(width));
                    vertical(source, &filter, outputs[1].chunks_exact_mut(width));
                    assert_eq!(
                        outputs[0], outputs[1],
                        "vertical, {length} to {resized}, {width} wide"
                    );
                }
            }
        }
    }
}
