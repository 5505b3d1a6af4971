//! Random mutations of inputs.

use rand::Rng;

/// Maximum length of a mutated input, in bytes.
pub const MAX_LEN: usize = 64 << 10;

/// Integers at which sizes, counts and signs overflow.
const EDGE_CASES: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    16,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// Tokens of text formats, for all targets.
const DICTIONARY: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"18446744073709551615",
    b"9223372036854775808",
    b"null",
    b"[]",
    b"{}",
    b"\"\"",
    b"\\u0000",
    b"[[[[[[[[",
];

/// Applies 1, 2, 4 or 8 mutations to `input`. Some of them write pieces of `others` or tokens of
/// `dictionary` into it. The result is truncated to [`MAX_LEN`].
pub fn mutated(
    random: &mut impl Rng,
    input: &[u8],
    others: &[Vec<u8>],
    dictionary: &[&[u8]],
) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 << below(random, 4) {
        change(random, &mut bytes, others, dictionary);
    }
    bytes.truncate(MAX_LEN);
    bytes
}

/// Applies one mutation.
fn change(random: &mut impl Rng, bytes: &mut Vec<u8>, others: &[Vec<u8>], dictionary: &[&[u8]]) {
    let at = below(random, bytes.len() + 1);
    match below(random, 10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << below(random, 8),
        1 if at < bytes.len() => bytes[at] = random.next_u32() as u8,
        2 => {
            let edge = EDGE_CASES[below(random, EDGE_CASES.len())];
            let width = [1, 2, 4, 8][below(random, 4)];
            let little = edge.to_le_bytes();
            let mut number = little[..width].to_vec();
            if below(random, 2) == 0 {
                number.reverse();
            }
            overwrite(bytes, at, &number);
        }
        3 => {
            let end = at + span(random, bytes.len() - at);
            bytes.drain(at..end.min(bytes.len()));
        }
        4 => {
            let end = (at + span(random, bytes.len() - at)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = below(random, bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        5 => bytes.truncate(at),
        6 if !others.is_empty() => {
            let other = &others[below(random, others.len())];
            let from = below(random, other.len() + 1);
            let end = (from + span(random, other.len() - from)).min(other.len());
            overwrite(bytes, at, &other[from..end]);
        }
        7 => {
            let all = DICTIONARY.len() + dictionary.len();
            let number = below(random, all);
            let token = DICTIONARY
                .get(number)
                .unwrap_or_else(|| &dictionary[number - DICTIONARY.len()]);
            if below(random, 2) == 0 {
                overwrite(bytes, at, token);
            } else {
                bytes.splice(at..at, token.iter().copied());
            }
        }
        8 => {
            // Replace or insert a digit of a number in text.
            if let Some(offset) = bytes[at..].iter().position(u8::is_ascii_digit) {
                let digit = b'0' + below(random, 10) as u8;
                if below(random, 2) == 0 {
                    bytes[at + offset] = digit;
                } else {
                    bytes.insert(at + offset, digit);
                }
            }
        }
        _ => {
            let piece: Vec<u8> = (0..span(random, 64))
                .map(|_| random.next_u32() as u8)
                .collect();
            bytes.splice(at..at, piece);
        }
    }
}

/// A random length of at most `max`. Short lengths are more likely.
fn span(random: &mut impl Rng, max: usize) -> usize {
    let limit = 1 << below(random, 11);
    (below(random, limit) + 1).min(max)
}

/// A random integer in `0..count`. `count` must not be 0.
pub(crate) fn below(random: &mut impl Rng, count: usize) -> usize {
    ((u128::from(random.next_u64()) * count as u128) >> 64) as usize
}

/// Writes `piece` at the offset `at`, and extends `bytes` if it is too short.
fn overwrite(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let end = (at + piece.len()).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
}
