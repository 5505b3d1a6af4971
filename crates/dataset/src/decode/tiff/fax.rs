//! CCITT compression. White pixels become bits 0, black ones bits 1.

use fax::Color;
use fax::decoder::{decode_g3, decode_g4, pels};

/// Decodes one-dimensional Group 3. Returns whether all rows of `out` are complete.
pub(super) fn group3(data: &[u8], columns: usize, out: &mut [u8]) -> bool {
    // Ends of line, in case that the data does not end with six.
    const END: [u8; 12] = [0, 0x10, 1, 0, 0x10, 1, 0, 0x10, 1, 0, 0x10, 1];
    let Ok(width) = u16::try_from(columns) else {
        return false;
    };
    let mut rows = out.chunks_exact_mut(columns.div_ceil(8));
    let mut is_complete = true;
    let input = data.iter().copied().chain(END);
    let _ = decode_g3(input, |line| {
        if let Some(row) = rows.next() {
            is_complete &= line.last() == Some(&width);
            draw(line, width, row);
        }
    });
    is_complete && rows.next().is_none()
}

/// Decodes Group 4. Returns whether all rows of `out` are complete.
pub(super) fn group4(data: &[u8], columns: usize, out: &mut [u8]) -> bool {
    let mut rows = out.chunks_exact_mut(columns.div_ceil(8));
    let (Ok(width), Ok(height)) = (u16::try_from(columns), u16::try_from(rows.len())) else {
        return false;
    };
    let decoded = decode_g4(data.iter().copied(), width, Some(height), |line| {
        if let Some(row) = rows.next() {
            draw(line, width, row);
        }
    });
    decoded.is_some() && rows.next().is_none()
}

/// Writes a line, given as the positions where the color changes, to the bits of `row`.
fn draw(line: &[u16], width: u16, row: &mut [u8]) {
    for (x, color) in pels(line, width).enumerate() {
        if color == Color::Black {
            row[x / 8] |= 0x80 >> (x % 8);
        }
    }
}
