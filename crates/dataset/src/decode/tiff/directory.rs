//! The first directory of a TIFF file, or of EXIF metadata, which has the same structure.

use std::ops::Range;

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// Reads an unsigned integer of at most 8 bytes.
    pub(super) fn integer(self, bytes: &[u8]) -> u64 {
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, push),
            Self::Big => bytes.iter().fold(0, push),
        }
    }
}

/// A list of tags with values.
#[derive(Debug)]
pub(in crate::decode) struct Directory<'a> {
    bytes: &'a [u8],
    pub(super) order: ByteOrder,
    /// Tags in file order. The first of several equal tags counts.
    entries: Vec<Entry>,
    /// Whether no entry was left out because the file is truncated.
    pub(super) is_complete: bool,
}

/// A tag and the position of its values.
#[derive(Debug)]
struct Entry {
    tag: u64,
    kind: u64,
    values: Range<usize>,
}

impl<'a> Directory<'a> {
    /// Reads the first directory of `bytes`, a TIFF or BigTIFF file.
    ///
    /// As in Pillow, entries of unknown types are left out, as are those that follow an entry with
    /// values outside of the file. Returns `None` if there is no directory.
    pub(in crate::decode) fn first(bytes: &'a [u8]) -> Option<Self> {
        // Pillow also accepts swapped bytes in the number 42.
        let (order, big) = match bytes.get(..4)? {
            b"II*\0" | b"II\0*" => (ByteOrder::Little, false),
            b"MM\0*" | b"MM*\0" => (ByteOrder::Big, false),
            b"II+\0" => (ByteOrder::Little, true),
            b"MM\0+" => (ByteOrder::Big, true),
            _ => return None,
        };
        let integer = |position: usize, length: usize| {
            let end = position.checked_add(length)?;
            Some(order.integer(bytes.get(position..end)?))
        };
        let (word, count_length) = if big { (8, 8) } else { (4, 2) };
        let position = usize::try_from(integer(word, word)?).ok()?;
        let count = integer(position, count_length)?;
        let first = position + count_length;
        let entry_length = 4 + 2 * word;
        let (mut entries, mut is_complete, mut out_of_line) = (Vec::new(), true, 0usize);
        for index in 0..count.min(u64::from(u16::MAX)) as usize {
            let start = first + index * entry_length;
            let inline = start + 4 + word;
            let (Some(tag), Some(kind), Some(number), Some(offset)) = (
                integer(start, 2),
                integer(start + 2, 2),
                integer(start + 4, word),
                integer(inline, word),
            ) else {
                is_complete = false;
                break;
            };
            let length = size_of_kind(kind).unwrap_or(0);
            let length = length.saturating_mul(usize::try_from(number).unwrap_or(usize::MAX));
            let mut begin = inline;
            if length > word {
                out_of_line = out_of_line.saturating_add(length);
                if out_of_line > bytes.len() {
                    continue;
                }
                begin = usize::try_from(offset).unwrap_or(usize::MAX);
            }
            let values = begin..begin.saturating_add(length);
            if values.end > bytes.len() {
                is_complete = false;
                break;
            }
            entries.push(Entry { tag, kind, values });
        }
        Some(Self {
            bytes,
            order,
            entries,
            is_complete,
        })
    }

    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.tag == u64::from(tag) && !entry.values.is_empty())
    }

    /// Returns whether the directory has `tag`.
    pub(in crate::decode) fn contains(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// Returns whether the values of `tag` have the type BYTE.
    pub(in crate::decode) fn has_bytes(&self, tag: u16) -> bool {
        self.entry(tag).is_some_and(|entry| entry.kind == 1)
    }

    /// The bytes of the values of `tag`.
    pub(in crate::decode) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.entry(tag)
            .map(|entry| &self.bytes[entry.values.clone()])
    }

    /// At most `limit` values of `tag`. Numbers are exact up to 2^53, more than the length of any
    /// file. Returns `None` if the directory lacks the tag or its values are not numbers.
    pub(super) fn numbers(&self, tag: u16, limit: usize) -> Option<Vec<f64>> {
        let Entry { kind, values, .. } = self.entry(tag)?;
        let size = size_of_kind(*kind)?;
        let values = self.bytes[values.clone()].chunks_exact(size);
        values
            .take(limit)
            .map(|bytes| number(*kind, bytes, self.order))
            .collect()
    }

    /// The first value of `tag`.
    pub(in crate::decode) fn number(&self, tag: u16) -> Option<f64> {
        self.numbers(tag, 1)?.first().copied()
    }
}

/// Size in bytes of a value whose type has the number `kind`.
fn size_of_kind(kind: u64) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}

/// Reads a value whose type has the number `kind`. Text and uninterpreted bytes are not numbers.
fn number(kind: u64, bytes: &[u8], order: ByteOrder) -> Option<f64> {
    let value = order.integer(bytes);
    let halves = || {
        let (numerator, denominator) = bytes.split_at(4);
        (
            order.integer(numerator) as u32,
            order.integer(denominator) as u32,
        )
    };
    Some(match kind {
        1 | 3 | 4 | 13 | 16 | 18 => value as f64,
        5 => f64::from(halves().0) / f64::from(halves().1),
        6 => f64::from(value as i8),
        8 => f64::from(value as i16),
        9 => f64::from(value as i32),
        10 => f64::from(halves().0 as i32) / f64::from(halves().1 as i32),
        11 => f64::from(f32::from_bits(value as u32)),
        12 => f64::from_bits(value),
        17 => value as i64 as f64,
        _ => return None,
    })
}
