//! Decompresses LZW, PackBits and CCITT data into a buffer. Each function returns whether the buffer
//! is complete.

use fax::Color;
use fax::decoder::{decode_g3, decode_g4, pels};
use weezl::decode::Decoder as LzwDecoder;
use weezl::{BitOrder, LzwStatus};

pub(super) fn lzw(mut data: &[u8], mut out: &mut [u8]) -> bool {
    let mut decoder = LzwDecoder::with_tiff_size_switch(BitOrder::Msb, 8);
    while !out.is_empty() {
        let progress = decoder.decode_bytes(data, out);
        data = &data[progress.consumed_in..];
        out = &mut out[progress.consumed_out..];
        if !matches!(progress.status, Ok(LzwStatus::Ok)) {
            break;
        }
    }
    out.is_empty()
}

pub(super) fn pack_bits(mut data: &[u8], mut out: &mut [u8]) -> bool {
    while !out.is_empty() {
        let Some((&head, rest)) = data.split_first() else {
            return false;
        };
        data = rest;
        match head as i8 {
            -128 => {}
            head @ 0.. => {
                let count = (head as usize + 1).min(out.len());
                let Some((literal, rest)) = data.split_at_checked(count) else {
                    return false;
                };
                out[..count].copy_from_slice(literal);
                (data, out) = (rest, &mut out[count..]);
            }
            head => {
                let count = (1 - isize::from(head)) as usize;
                let count = count.min(out.len());
                let Some((&byte, rest)) = data.split_first() else {
                    return false;
                };
                out[..count].fill(byte);
                (data, out) = (rest, &mut out[count..]);
            }
        }
    }
    true
}

/// One-dimensional Group 3. White pixels become bits 0, black ones bits 1.
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

/// Group 4, with the same bits.
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
