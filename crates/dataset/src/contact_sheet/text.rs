//! One line of text, drawn into a picture.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use image::RgbImage;

/// A size of text, made for pictures of a certain width.
pub(super) struct Line {
    scale: PxScale,
    font: FontRef<'static>,
}

impl Line {
    /// Text of a legible size above a picture of `width` pixels.
    pub(super) fn for_width(width: u32) -> Self {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)
            .expect("the built-in font is valid");
        Self {
            scale: PxScale::from((width as f32 / 10.0).clamp(12.0, 28.0)),
            font,
        }
    }

    /// Rows that a line takes.
    pub(super) fn height(&self) -> u32 {
        (self.font.as_scaled(self.scale).height() * 1.25).ceil() as u32
    }

    /// Draws `text` in black into the first rows of `picture`, centred, shortened to its width.
    pub(super) fn draw(&self, picture: &mut RgbImage, text: &str) {
        let font = self.font.as_scaled(self.scale);
        let room = picture.width() as f32;
        let text = self.shorten(text, room);
        let mut x = ((room - self.width(&text)) / 2.0).max(0.0);
        let baseline = (self.height() as f32 - font.height()) / 2.0 + font.ascent();
        let mut last = None;
        for character in text.chars() {
            let id = font.glyph_id(character);
            x += last.map_or(0.0, |last| font.kern(last, id));
            let glyph = id.with_scale_and_position(self.scale, point(x, baseline));
            if let Some(outline) = font.outline_glyph(glyph) {
                let bounds = outline.px_bounds();
                outline.draw(|dx, dy, cover| {
                    let (column, row) = (
                        bounds.min.x as i64 + i64::from(dx),
                        bounds.min.y as i64 + i64::from(dy),
                    );
                    let place = u32::try_from(column).ok().zip(u32::try_from(row).ok());
                    if let Some(pixel) =
                        place.and_then(|(column, row)| picture.get_pixel_mut_checked(column, row))
                    {
                        pixel.0 = pixel
                            .0
                            .map(|level| (f32::from(level) * (1.0 - cover.clamp(0.0, 1.0))) as u8);
                    }
                });
            }
            x += font.h_advance(id);
            last = Some(id);
        }
    }

    /// The text, or as much of it as leaves room for an ellipsis.
    fn shorten(&self, text: &str, room: f32) -> String {
        let mut shown: String = text
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        if self.width(&shown) <= room {
            return shown;
        }
        while shown.pop().is_some() {
            let candidate = format!("{}…", shown.trim_end());
            if self.width(&candidate) <= room {
                return candidate;
            }
        }
        shown
    }

    fn width(&self, text: &str) -> f32 {
        let font = self.font.as_scaled(self.scale);
        let mut last = None;
        text.chars()
            .map(|character| {
                let id = font.glyph_id(character);
                let kern = last.map_or(0.0, |last| font.kern(last, id));
                last = Some(id);
                kern + font.h_advance(id)
            })
            .sum()
    }
}
