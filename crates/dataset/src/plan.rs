//! The crop and resize geometry of a sample.

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Index of the first row.
    pub top: u32,
    /// Index of the first column.
    pub left: u32,
    /// Number of rows.
    pub height: u32,
    /// Number of columns.
    pub width: u32,
}

/// Crops `region`, resizes it to `resized`, crops `window` from the result, pastes it onto a black
/// square, and mirrors the square if `flip` is set.
///
/// Describes both random crops and center crops. Resized pixels outside the window are not
/// computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The part of the image that is resized. Pixels outside it do not contribute.
    pub region: Region,
    /// Width and height of the resized region.
    pub resized: (u32, u32),
    /// The part of the resized region that is kept.
    pub window: Region,
    /// Column and row of the square at which the window is pasted, before the flip.
    pub offset: (u32, u32),
    /// Height and width of the square in pixels.
    pub size: u32,
    /// Whether the result is mirrored horizontally.
    pub flip: bool,
}

impl Plan {
    /// torchvision's `resized_crop`: resizes `region` to a square of `size`, and flips it if
    /// `flip`.
    pub fn resized_crop(region: Region, size: u32, flip: bool) -> Self {
        let window = Region {
            top: 0,
            left: 0,
            height: size,
            width: size,
        };
        Self {
            region,
            resized: (size, size),
            window,
            offset: (0, 0),
            size,
            flip,
        }
    }

    /// torchvision's `Resize(resize)` and `CenterCrop(size)` for an image of `width` × `height`.
    ///
    /// Sides shorter than `size` are padded with black before normalization.
    pub fn center_crop(width: u32, height: u32, resize: u32, size: u32) -> Self {
        let region = Region {
            top: 0,
            left: 0,
            height,
            width,
        };
        let resized = resized_size(width, height, resize);
        let (left, width, pad_left) = center(resized.0, size);
        let (top, height, pad_top) = center(resized.1, size);
        let window = Region {
            top,
            left,
            height,
            width,
        };
        Self {
            region,
            resized,
            window,
            offset: (pad_left, pad_top),
            size,
            flip: false,
        }
    }
}

/// Returns the width and height after torchvision's `Resize(short)`.
///
/// The shorter side becomes `short`, the longer side `floor(short · long side / short side)`, as in
/// `_compute_resized_output_size`, but at most `u32::MAX`.
pub fn resized_size(width: u32, height: u32, short: u32) -> (u32, u32) {
    let long = |long: u32, side: u32| {
        u32::try_from(u64::from(short) * u64::from(long) / u64::from(side.max(1)))
            .unwrap_or(u32::MAX)
    };
    if width <= height {
        (short, long(height, width))
    } else {
        (long(width, height), short)
    }
}

/// Center crop of `size` from `length` along one axis: first kept index, number kept, padding
/// before.
fn center(length: u32, size: u32) -> (u32, u32, u32) {
    if length < size {
        return (0, length, (size - length) / 2);
    }
    (
        (f64::from(length - size) / 2.0).round_ties_even() as u32,
        size,
        0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_side_is_rounded_down() {
        assert_eq!(resized_size(500, 375, 256), (341, 256));
        assert_eq!(resized_size(375, 500, 256), (256, 341));
        assert_eq!(resized_size(256, 300, 256), (256, 300));
        assert_eq!(resized_size(1, 40, 256), (256, 10_240));
        assert_eq!(resized_size(1, 178_956_970, 256), (256, u32::MAX));
    }

    #[test]
    fn offsets_round_half_to_even_and_short_sides_are_padded() {
        for (difference, offset) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (5, 2),
            (7, 4),
            (117, 58),
            (119, 60),
        ] {
            assert_eq!(
                center(224 + difference, 224),
                (offset, 224, 0),
                "{difference}"
            );
        }
        assert_eq!(center(223, 224), (0, 223, 0));
        assert_eq!(center(221, 224), (0, 221, 1));
        assert_eq!(center(1, 224), (0, 1, 111));
    }
}
