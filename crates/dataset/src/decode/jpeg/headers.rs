//! The headers of a JPEG (ITU-T T.81, annex B).

use std::io::BufRead as _;

use super::colors::Colors;

const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const SOF3: u8 = 0xC3;
const SOF15: u8 = 0xCF;
const DHT: u8 = 0xC4;
const EOI: u8 = 0xD9;
pub(in crate::decode) const SOS: u8 = 0xDA;
const DQT: u8 = 0xDB;
const DNL: u8 = 0xDC;
const DHP: u8 = 0xDE;
const APP0: u8 = 0xE0;
const APP14: u8 = 0xEE;

/// Bounds the decoding time of small files with many scans of large images. zune-jpeg has the same
/// limit.
const MAX_SCANS: usize = 100;

/// Why a JPEG cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Truncated,
    Damaged(&'static str),
    /// The file may be valid, but the decoders do not give the pixels of libjpeg. The format and the
    /// feature, as in [`Error::Unsupported`](crate::Error::Unsupported).
    Unsupported(&'static str),
}

/// The headers of the first image in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) frame: Frame,
    /// At least one scan.
    pub(super) scans: Vec<Scan>,
    pub(super) colors: Colors,
    /// Whether quantization tables or an Adobe segment follow the first scan header.
    pub(super) late_segments: bool,
}

/// The header of a frame that is Huffman-coded and uses the DCT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: u16,
    pub(super) height: u16,
    /// The color planes: one, three or four.
    pub(super) components: Vec<Component>,
    /// The largest sampling factors among the components: horizontal, vertical.
    pub(super) max_sampling: (u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    /// Identifier that scan headers refer to.
    pub(super) id: u8,
    /// Sampling factors: horizontal, vertical.
    pub(super) sampling: (u8, u8),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Indices of the components in the frame.
    pub(super) components: Vec<usize>,
    /// First and last coefficient, in zigzag order.
    pub(super) band: (u8, u8),
    /// Successive approximation: the lowest bit known before the scan, and after it.
    pub(super) low_bit: (u8, u8),
}

impl Headers {
    /// Reads the headers from SOI to EOI.
    ///
    /// Bytes may follow the end marker. End markers of thumbnails are inside segments and do not
    /// count.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Problem> {
        use Problem::{Damaged, Unsupported};
        let mut frame = None;
        let mut scans = Vec::new();
        let (mut jfif, mut adobe, mut late_segments) = (false, None, false);
        for (marker, payload) in Segments::new(bytes) {
            let late = !scans.is_empty();
            match marker {
                SOF0..=SOF2 if frame.is_some() => {
                    return Err(Damaged("the JPEG has two frame headers"));
                }
                SOF0..=SOF2 => frame = Some(Frame::read(payload, marker == SOF2)?),
                DHT => {}
                0xC9..=0xCC => return Err(Unsupported("a JPEG image with arithmetic coding")),
                SOF3..=SOF15 | DHP => {
                    return Err(Unsupported("a lossless or hierarchical JPEG image"));
                }
                DNL => return Err(Unsupported("a JPEG image with its height after a scan")),
                DQT => late_segments |= late,
                APP14 if payload.starts_with(b"Adobe") => match payload.get(11) {
                    Some(_) if late => late_segments = true,
                    Some(&transform @ 0..=2) => adobe = Some(transform),
                    _ => return Err(Damaged("the Adobe segment of the JPEG is invalid")),
                },
                APP0 if !late => jfif |= payload.starts_with(b"JFIF\0") && payload.len() >= 14,
                SOS => {
                    let frame = frame.as_ref();
                    let frame = frame.ok_or(Damaged("a JPEG scan precedes the frame header"))?;
                    scans.push(Scan::read(payload, frame)?);
                    if scans.len() > MAX_SCANS {
                        return Err(Unsupported("a JPEG image with more than 100 scans"));
                    }
                }
                EOI => {
                    let frame = frame.ok_or(Damaged("the JPEG has no frame header"))?;
                    if scans.is_empty() {
                        return Err(Damaged("the JPEG has no scan"));
                    }
                    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
                    let colors = Colors::select(&ids, jfif, adobe);
                    return Ok(Self {
                        frame,
                        scans,
                        colors,
                        late_segments,
                    });
                }
                _ => {}
            }
        }
        Err(Problem::Truncated)
    }
}

impl Frame {
    fn read(payload: &[u8], progressive: bool) -> Result<Self, Problem> {
        use Problem::{Damaged, Unsupported};
        let damaged = Damaged("the frame header of the JPEG is invalid");
        let Some((&[bits, y1, y0, x1, x0, count], entries)) = payload.split_first_chunk() else {
            return Err(damaged);
        };
        if bits != 8 {
            return Err(Unsupported(
                "a JPEG image with other than 8 bits per channel",
            ));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Unsupported(
                "a JPEG image with other than 1, 3 or 4 channels",
            ));
        }
        let (entries, rest) = entries.as_chunks::<3>();
        if entries.len() != usize::from(count) || !rest.is_empty() {
            return Err(damaged);
        }
        let components: Vec<Component> = entries
            .iter()
            .map(|&[id, sampling, _]| Component {
                id,
                sampling: (sampling >> 4, sampling & 0x0F),
            })
            .collect();
        let sampling = components.iter().map(|component| component.sampling);
        let max = sampling.fold((1, 1), |max, (h, v)| (max.0.max(h), max.1.max(v)));
        for (index, &Component { id, sampling }) in components.iter().enumerate() {
            let (h, v) = sampling;
            let repeated = components[..index].iter().any(|other| other.id == id);
            if repeated || !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(damaged);
            }
            if max.0 % h != 0 || max.1 % v != 0 {
                return Err(Unsupported(
                    "a JPEG image with channel sizes that are not multiples of each other",
                ));
            }
        }
        Ok(Self {
            progressive,
            width: u16::from_be_bytes([x1, x0]),
            height: u16::from_be_bytes([y1, y0]),
            components,
            max_sampling: max,
        })
    }

    /// Returns the width and height in MCUs of scans with several components.
    pub(super) fn mcus(&self) -> (usize, usize) {
        let mcus = |size: u16, max: u8| usize::from(size).div_ceil(8 * usize::from(max));
        let (h, v) = self.max_sampling;
        (mcus(self.width, h), mcus(self.height, v))
    }

    /// Returns the width and height of `component` in samples.
    pub(super) fn size(&self, component: &Component) -> (usize, usize) {
        let samples = |size: u16, factor: u8, max: u8| {
            (usize::from(size) * usize::from(factor)).div_ceil(usize::from(max))
        };
        let ((h, v), max) = (component.sampling, self.max_sampling);
        (
            samples(self.width, h, max.0),
            samples(self.height, v, max.1),
        )
    }

    /// Returns the number of samples of all components, padded to whole MCUs.
    pub(super) fn samples(&self) -> u64 {
        let (x, y) = self.mcus();
        let blocks: usize = self.components.iter().map(Component::blocks).sum();
        (x * y) as u64 * blocks as u64 * 64
    }
}

impl Component {
    /// Returns the number of blocks in an MCU of scans with several components.
    fn blocks(&self) -> usize {
        usize::from(self.sampling.0) * usize::from(self.sampling.1)
    }
}

impl Scan {
    fn read(payload: &[u8], frame: &Frame) -> Result<Self, Problem> {
        let damaged = Problem::Damaged("a scan header of the JPEG is invalid");
        let Some((&count, rest)) = payload.split_first() else {
            return Err(damaged);
        };
        let Some((entries, &[first, last, bits])) = rest.split_last_chunk() else {
            return Err(damaged);
        };
        if !(1..=4).contains(&count) || entries.len() != 2 * usize::from(count) {
            return Err(damaged);
        }
        let mut components = Vec::new();
        for [id, _] in entries.as_chunks().0 {
            let index = frame.components.iter().position(|c| c.id == *id);
            match index {
                Some(index) if !components.contains(&index) => components.push(index),
                _ => return Err(damaged),
            }
        }
        let blocks = components
            .iter()
            .map(|&index| frame.components[index].blocks());
        let interleaved = components.len() > 1;
        let valid_band = if frame.progressive {
            first <= last
                && last < 64
                && (first == 0) == (last == 0)
                && (first == 0 || !interleaved)
        } else {
            true
        };
        if (interleaved && blocks.sum::<usize>() > 10) || !valid_band {
            return Err(damaged);
        }
        Ok(Self {
            components,
            band: (first, last),
            low_bit: (bits >> 4, bits & 0x0F),
        })
    }
}

/// Iterates over the marker segments of a JPEG, as (marker, payload).
///
/// Skips fill bytes, stray bytes between segments and entropy-coded data, as libjpeg does. Restart
/// markers, SOI and TEM are not returned. Ends at a truncated segment.
pub(in crate::decode) struct Segments<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Segments<'a> {
    pub(in crate::decode) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut rest = self.bytes.get(self.position..)?;
            // Faster than a search with an iterator.
            self.position += rest.skip_until(0xFF).ok()?;
            match *self.bytes.get(self.position)? {
                // The previous 0xFF is a fill byte. This one may begin the marker.
                0xFF => {}
                // An escaped 0xFF in entropy-coded data, or a marker without a segment.
                0x00 | 0x01 | 0xD0..=0xD8 => self.position += 1,
                EOI => {
                    self.position += 1;
                    return Some((EOI, &[]));
                }
                marker => {
                    let start = self.position + 1;
                    let length = self.bytes.get(start..start + 2)?;
                    // The length includes its own two bytes.
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    self.position = start + length;
                    return Some((marker, self.bytes.get(start + 2..self.position)?));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, Headers, Problem, Scan};
    use crate::decode::jpeg::colors::Colors;

    const FRAME: [u8; 19] = [
        0xFF, 0xC0, 0, 17, 8, 0, 40, 0, 48, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1,
    ];

    #[test]
    fn end_marker_counts_only_outside_segments() {
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        let scan = [
            0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0xFF, 0x00, 0xFF, 0xD0, 0x34,
        ];
        let head = [&[0xFF, 0xD8][..], &thumbnail, &FRAME, &scan].concat();
        for end in 0..=head.len() {
            // The marker of a thumbnail that ends the file does not count either.
            let error = Headers::read(&head[..end]).unwrap_err();
            assert_eq!(error, Problem::Truncated, "cut at {end}");
        }
        assert!(Headers::read(&[&head[..], &[0xFF, 0xD9]].concat()).is_ok());
        // Fill bytes may precede the marker, and data may follow it.
        assert!(Headers::read(&[&head[..], &[0xFF, 0xFF, 0xD9, 0, 0xFF, 0xC3]].concat()).is_ok());
    }

    #[test]
    fn frame_and_scan_headers_are_read() {
        let first = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0xFF, 0, 0x34];
        let second = [0xFF, 0xDA, 0, 10, 2, 2, 0x11, 3, 0x11, 0, 63, 0, 0x56];
        let bytes = [&[0xFF, 0xD8][..], &FRAME, &first, &second, &[0xFF, 0xD9]].concat();
        let headers = Headers::read(&bytes).unwrap();
        let component = |id, sampling| Component { id, sampling };
        let frame = &headers.frame;
        assert_eq!(
            (frame.width, frame.height, frame.progressive),
            (48, 40, false)
        );
        assert_eq!(frame.max_sampling, (2, 2));
        assert_eq!(
            frame.components,
            [
                component(1, (2, 2)),
                component(2, (1, 1)),
                component(3, (1, 1))
            ]
        );
        assert_eq!((frame.mcus(), frame.samples()), ((3, 3), 9 * 6 * 64));
        assert_eq!(frame.size(&frame.components[1]), (24, 20));
        let scan = |components: &[usize]| Scan {
            components: components.into(),
            band: (0, 63),
            low_bit: (0, 0),
        };
        assert_eq!(headers.scans, [scan(&[0]), scan(&[1, 2])]);
        assert_eq!(
            (headers.colors, headers.late_segments),
            (Colors::YCbCr, false)
        );
    }
}
