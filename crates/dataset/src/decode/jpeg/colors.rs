//! The color space of a JPEG.

use zune_jpeg::zune_core::colorspace::ColorSpace;

use crate::decode::Channels;

/// The color space of the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    Gray,
    YCbCr,
    Rgb,
    /// Inverted, as Pillow assumes with and without an Adobe segment.
    Cmyk,
    /// CMYK, of which C, M and Y are converted to YCbCr.
    Ycck,
}

impl Colors {
    /// Returns the color space that libjpeg selects, from the component ids, whether there is a JFIF
    /// segment, and the transform in the Adobe segment.
    pub(super) fn select(ids: &[u8], jfif: bool, adobe: Option<u8>) -> Self {
        match (ids.len(), adobe) {
            (1, _) => Self::Gray,
            (4, None | Some(0)) => Self::Cmyk,
            (4, _) => Self::Ycck,
            _ if jfif => Self::YCbCr,
            (_, Some(0)) => Self::Rgb,
            (_, None) if ids == b"RGB" => Self::Rgb,
            _ => Self::YCbCr,
        }
    }

    pub(super) fn channels(self) -> Channels {
        match self {
            Self::Gray => Channels::Gray,
            Self::YCbCr | Self::Rgb => Channels::Rgb,
            Self::Cmyk | Self::Ycck => Channels::Cmyk,
        }
    }

    /// The name that zune-jpeg has for the color space.
    pub(super) fn in_zune(self) -> ColorSpace {
        match self {
            Self::Gray => ColorSpace::Luma,
            Self::YCbCr => ColorSpace::YCbCr,
            Self::Rgb => ColorSpace::RGB,
            Self::Cmyk => ColorSpace::CMYK,
            Self::Ycck => ColorSpace::YCCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Colors;

    #[test]
    fn jfif_outranks_adobe_and_adobe_outranks_component_ids() {
        for (ids, jfif, adobe, expected) in [
            (&[1, 2, 3][..], false, None, Colors::YCbCr),
            (b"abc", false, None, Colors::YCbCr),
            (b"RGB", false, None, Colors::Rgb),
            (b"RGB", false, Some(1), Colors::YCbCr),
            (b"RGB", true, None, Colors::YCbCr),
            (&[1, 2, 3], false, Some(0), Colors::Rgb),
            (&[1, 2, 3], true, Some(0), Colors::YCbCr),
            (&[1, 2, 3, 4], true, None, Colors::Cmyk),
            (&[1, 2, 3, 4], true, Some(0), Colors::Cmyk),
            (&[1, 2, 3, 4], false, Some(2), Colors::Ycck),
            (&[1, 2, 3, 4], false, Some(1), Colors::Ycck),
            (&[1], true, Some(2), Colors::Gray),
        ] {
            assert_eq!(
                Colors::select(ids, jfif, adobe),
                expected,
                "{ids:?}, {jfif}, {adobe:?}"
            );
        }
    }
}
