//! The frame and scan headers of a JPEG (ITU-T T.81, annex B).

const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const EOI: u8 = 0xD9;
pub(in crate::decode) const SOS: u8 = 0xDA;

/// A component (a color plane) in the frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    /// Identifier that scan headers refer to.
    pub(super) id: u8,
    /// Sampling factors: horizontal, vertical.
    pub(super) sampling: (u8, u8),
}

/// The header of a Huffman-coded DCT frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
}

impl Frame {
    /// Reads the first frame header (SOF0, SOF1 or SOF2).
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (marker, header) =
            Segments::new(bytes).find(|(marker, _)| (SOF0..=SOF2).contains(marker))?;
        // Precision (1 byte), height (2), width (2), number of components (1).
        let count = usize::from(*header.get(5)?);
        let components = header.get(6..6 + 3 * count)?.chunks_exact(3);
        Some(Self {
            progressive: marker == SOF2,
            components: components
                .map(|bytes| Component {
                    id: bytes[0],
                    sampling: (bytes[1] >> 4, bytes[1] & 0x0F),
                })
                .collect(),
        })
    }

    /// Returns the largest horizontal and vertical sampling factors among the components.
    pub(super) fn max_sampling(&self) -> (u8, u8) {
        let sampling = self.components.iter().map(|component| component.sampling);
        sampling.fold((1, 1), |max, (h, v)| (max.0.max(h), max.1.max(v)))
    }
}

/// Returns the header of each scan before the end marker: the number of components, two bytes per
/// component (id, Huffman tables), and three more bytes.
pub(super) fn scans(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    Segments::new(bytes)
        .take_while(|(marker, _)| *marker != EOI)
        .filter(|(marker, _)| *marker == SOS)
        .map(|(_, header)| header)
}

/// Returns the component ids in the scan header `header`.
pub(super) fn scan_components(header: &[u8]) -> impl Iterator<Item = u8> {
    let count = header.first().map_or(0, |&count| usize::from(count));
    let ids = header.get(1..).unwrap_or_default().chunks_exact(2);
    ids.map(|entry| entry[0]).take(count)
}

/// Returns whether the image has an end marker.
///
/// Bytes may follow the marker. End markers of thumbnails are inside segments and do not count,
/// unless the file ends with one.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    // Most files end with the marker, so they need no search.
    bytes.ends_with(&[0xFF, EOI]) || Segments::new(bytes).any(|(marker, _)| marker == EOI)
}

/// Iterates over the marker segments of a JPEG, as (marker, payload).
///
/// Skips fill bytes, stray bytes between segments and entropy-coded data, as libjpeg does. Restart
/// markers, SOI and TEM are not returned. The payload of a truncated segment is empty.
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
            let rest = self.bytes.get(self.position..)?;
            self.position += rest.iter().position(|&byte| byte == 0xFF)? + 1;
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
                    let payload = self.bytes.get(start + 2..self.position);
                    return Some((marker, payload.unwrap_or_default()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, Frame, has_end, scan_components, scans};

    #[test]
    fn end_marker_counts_only_outside_segments() {
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        let scan = [0xFF, 0xDA, 0, 3, 1, 0x12, 0xFF, 0x00, 0xFF, 0xD0, 0x34];
        let head = [&[0xFF, 0xD8][..], &thumbnail, &scan].concat();
        assert!(
            !has_end(&head),
            "the end marker of the thumbnail was counted"
        );
        assert!(has_end(&[&head[..], &[0xFF, 0xD9]].concat()));
        assert!(
            has_end(&[&head[..], &[0xFF, 0xFF, 0xD9, 0, 0, 0]].concat()),
            "fill bytes before the marker or data after it were not skipped"
        );
        for end in 0..head.len() {
            // A file truncated right after the thumbnail's end marker passes this check. Decoding
            // fails, because the file has no scan.
            assert!(
                !has_end(&head[..end]) || head[..end].ends_with(&[0xFF, 0xD9]),
                "cut at {end}"
            );
        }
        assert!(
            !has_end(&[0xFF, 0xD8, 0xFF, 0xE1, 0xFF]),
            "a truncated segment length was accepted"
        );
    }

    #[test]
    fn frame_and_scan_headers_are_read() {
        let frame = [
            0xFF, 0xC0, 0, 17, 8, 0, 40, 0, 48, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1,
        ];
        let first = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0xFF, 0, 0x34];
        let second = [0xFF, 0xDA, 0, 10, 2, 2, 0x11, 3, 0x11, 0, 63, 0, 0x56];
        let bytes = [&[0xFF, 0xD8][..], &frame, &first, &second, &[0xFF, 0xD9]].concat();
        let component = |id, sampling| Component { id, sampling };
        let header = Frame::read(&bytes).unwrap();
        assert!(!header.progressive);
        assert_eq!(header.max_sampling(), (2, 2));
        assert_eq!(
            header.components,
            [
                component(1, (2, 2)),
                component(2, (1, 1)),
                component(3, (1, 1))
            ]
        );
        let ids: Vec<Vec<u8>> = scans(&bytes)
            .map(|header| scan_components(header).collect())
            .collect();
        assert_eq!(ids, [vec![1], vec![2, 3]]);
        for end in 0..bytes.len() {
            let _ = Frame::read(&bytes[..end]);
            let _ = scans(&bytes[..end]).flat_map(scan_components).count();
        }
    }
}
