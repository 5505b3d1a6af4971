//! Selects the decoder that gives the pixels of libjpeg for a JPEG, by its headers.
//!
//! `tests/jpeg_matrix` measures the decoders. docs/safety.md lists the results.

use super::colors::Colors;
use super::headers::{Component, Frame, Headers, Problem};

/// Returns an error if scans are missing or repeated, or if no decoder gives the pixels of libjpeg.
pub(super) fn check(headers: &Headers) -> Result<(), Problem> {
    use Problem::{Damaged, Unsupported};
    let frame = &headers.frame;
    if frame.progressive {
        check_progression(headers)?;
    } else {
        let mut scans = headers.scans.iter().flat_map(|scan| &scan.components);
        let mut seen = vec![false; frame.components.len()];
        if scans.any(|&index| std::mem::replace(&mut seen[index], true)) {
            return Err(Damaged("a channel of the JPEG has two scans"));
        }
        if seen.contains(&false) {
            return Err(Damaged("a channel of the JPEG has no scan"));
        }
    }
    if frame.components.iter().any(|c| is_replicated(frame, c)) {
        return Err(Unsupported(
            "a JPEG image of at most 4 columns or of 1 row with color at a lower resolution",
        ));
    }
    Ok(())
}

/// Checks that each scan refines the coefficients of earlier ones, and that the low frequencies are
/// complete. libjpeg smooths images without them.
fn check_progression(headers: &Headers) -> Result<(), Problem> {
    // The lowest known bit of each coefficient.
    let mut known = vec![[None; 64]; headers.frame.components.len()];
    for scan in &headers.scans {
        let (before, after) = scan.low_bit;
        let expected = (before > 0).then_some(before);
        let (first, last) = (usize::from(scan.band.0), usize::from(scan.band.1));
        for &component in &scan.components {
            for bit in &mut known[component][first..=last] {
                if *bit != expected || (before > 0 && after + 1 != before) {
                    return Err(Problem::Damaged(
                        "the scans of the progressive JPEG are out of order",
                    ));
                }
                *bit = Some(after);
            }
        }
    }
    let complete = |bits: &[Option<u8>; 64]| bits[..10].iter().all(|bit| *bit == Some(0));
    if known.iter().all(complete) {
        Ok(())
    } else {
        Err(Problem::Damaged("the progressive JPEG lacks scans"))
    }
}

/// Returns whether libjpeg replicates the samples of `component`, while the decoders interpolate.
///
/// libjpeg does so for rows of one or two samples, of half of the image width. The decoders ignore the
/// horizontal factor of images of one column, and the vertical factor of images of one row.
fn is_replicated(frame: &Frame, component: &Component) -> bool {
    let ((h, v), max) = (component.sampling, frame.max_sampling);
    let (width, height) = frame.size(component);
    let (half_width, half_height) = (2 * h == max.0, 2 * v == max.1);
    let two_samples = width == 2 && half_width && (v == max.1 || half_height);
    let column = width == 1 && half_height && height > 1;
    let row = frame.height == 1 && half_width && v != max.1 && !half_height && width > 1;
    two_samples || (column && (half_width || (frame.width == 1 && h != max.0))) || row
}

/// Returns whether zune-jpeg 0.5.15 decodes the file correctly, if it selects the same color space.
///
/// It gives stripes for several scans in a sequential file, for chroma at a higher resolution than
/// luma, and for some sampling factors of 3 and 4. It ignores quantization tables after the first
/// scan, and skips data after an application segment between progressive scans. Its last rows and
/// columns of interpolated chroma differ, which counts in small images.
pub(super) fn is_for_zune(headers: &Headers) -> bool {
    let frame = &headers.frame;
    let (luma, chroma) = (&frame.components[0], &frame.components[1..]);
    matches!(headers.colors, Colors::Gray | Colors::YCbCr)
        && (frame.progressive || headers.scans.len() == 1)
        && luma.sampling == frame.max_sampling
        && luma.sampling.0 != 3
        && luma.sampling.1 != 3
        && chroma.iter().all(|component| {
            component.sampling == chroma[0].sampling
                && (luma.sampling.1 < 4 || component.sampling == (1, 1))
        })
        && !headers.late_tables
        && !headers.late_metadata
        && frame.height > 16
        && frame.width > 16
}

/// Returns whether jpeg-decoder 0.3.2 decodes the file correctly.
///
/// It reads a wrong number of blocks in some single-component scans with a sampling factor between 1
/// and the maximum. For a progressive file, it uses the last quantization tables.
pub(super) fn is_for_jpeg_decoder(headers: &Headers) -> bool {
    let frame = &headers.frame;
    let mcus = frame.mcus();
    let exact = |component: &Component| {
        let ((h, v), size) = (component.sampling, frame.size(component));
        let blocks_read = |mcus: usize, factor: u8, pixels: u16| {
            (mcus * usize::from(factor)).min(usize::from(pixels).div_ceil(8))
        };
        size.0.div_ceil(8) == blocks_read(mcus.0, h, frame.width)
            && size.1.div_ceil(8) == blocks_read(mcus.1, v, frame.height)
    };
    let mut separate = headers
        .scans
        .iter()
        .filter(|scan| scan.components.len() == 1);
    separate.all(|scan| exact(&frame.components[scan.components[0]]))
        && !(frame.progressive && headers.late_tables)
}
