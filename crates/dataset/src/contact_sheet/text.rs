//! Draws a line of text in any script into an image.
//!
//! Each character is drawn with the first font that has a glyph for it: the bundled fonts (Ubuntu
//! Light, Noto Emoji), then the installed fonts. Characters that no font supports are transliterated
//! to Latin letters, as are scripts that need shaping or run from right to left. This keeps class
//! names readable on every machine.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use ab_glyph::{Font, FontArc, FontRef, FontVec, OutlinedGlyph, PxScale, ScaleFont, point};
use fontdb::{Database, FaceInfo, Style};
use image::{GrayImage, Luma, Rgb, RgbImage};

/// A line of text, laid out at one size.
pub struct Line {
    glyphs: Vec<OutlinedGlyph>,
    width: f32,
    height: u32,
}

impl Line {
    /// Lays out `text`. `size` is the distance from the descender to the ascender of the first
    /// bundled font, in pixels.
    pub fn new(text: &str, size: f32) -> Self {
        let mut fonts = FONTS.lock().unwrap_or_else(PoisonError::into_inner);
        let characters = fonts.choose(text);
        let primary = fonts.loaded[0].as_scaled(size);
        let height = (primary.height() * 1.25).ceil();
        let baseline = (height - primary.height()) / 2.0 + primary.ascent();
        let pixels_per_em = size / heights_per_em(&fonts.loaded[0]);

        let (mut glyphs, mut x, mut last) = (Vec::new(), 0.0, None);
        for (character, index) in characters {
            // All fonts get the same em size, because their ascenders and descenders differ.
            let font = &fonts.loaded[index];
            let scale = PxScale::from(pixels_per_em * heights_per_em(font));
            let font = font.as_scaled(scale);
            let id = font.glyph_id(character);
            if let Some((previous, previous_index)) = last.replace((id, index))
                && previous_index == index
            {
                x += font.kern(previous, id);
            }
            let glyph = id.with_scale_and_position(scale, point(x, baseline));
            glyphs.extend(font.outline_glyph(glyph));
            x += font.h_advance(id);
        }
        Self {
            glyphs,
            width: x,
            height: height as u32,
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> f32 {
        self.width
    }

    /// Height in pixels, including line spacing. Depends only on the size.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Renders the line as a mask. Each pixel is its coverage: 0 for background, 255 for ink.
    pub fn mask(&self) -> GrayImage {
        let mut mask = GrayImage::new(self.width.ceil().max(1.0) as u32, self.height);
        for glyph in &self.glyphs {
            let bounds = glyph.px_bounds();
            glyph.draw(|dx, dy, coverage| {
                let x = u32::try_from(bounds.min.x as i64 + i64::from(dx));
                let y = u32::try_from(bounds.min.y as i64 + i64::from(dy));
                if let (Ok(x), Ok(y)) = (x, y)
                    && let Some(pixel) = mask.get_pixel_mut_checked(x, y)
                {
                    let level = (255.0 * coverage.clamp(0.0, 1.0)).round() as u8;
                    pixel.0[0] = pixel.0[0].max(level);
                }
            });
        }
        mask
    }

    /// Draws the line with its top left corner at `(left, top)`. Pixels outside `image` are
    /// clipped.
    pub fn draw(&self, image: &mut RgbImage, left: i64, top: i64, color: Rgb<u8>) {
        blend(image, &self.mask(), left, top, color);
    }
}

/// Returns `text` if its [`Line`] is at most `width` pixels wide. Otherwise cuts `text` to fit and
/// appends an ellipsis. The shortest result is the ellipsis alone, even if it is wider.
pub fn shorten(text: &str, size: f32, width: f32) -> String {
    let mut shortened = text.to_string();
    let mut rest = text;
    while Line::new(&shortened, size).width > width {
        let Some((end, _)) = rest.char_indices().next_back() else {
            break;
        };
        rest = &rest[..end];
        shortened = format!("{}…", rest.trim_end());
    }
    shortened
}

/// Blends `color` into `image`, using `mask` as the opacity and `(left, top)` as its top left
/// corner.
///
/// Pixels outside `image` are clipped.
pub fn blend(image: &mut RgbImage, mask: &GrayImage, left: i64, top: i64, color: Rgb<u8>) {
    for (x, y, &Luma([coverage])) in mask.enumerate_pixels() {
        let x = u32::try_from(left + i64::from(x));
        let y = u32::try_from(top + i64::from(y));
        if let (Ok(x), Ok(y)) = (x, y)
            && let Some(pixel) = image.get_pixel_mut_checked(x, y)
        {
            let coverage = f32::from(coverage) / 255.0;
            for (level, ink) in pixel.0.iter_mut().zip(color.0) {
                let mixed = f32::from(*level) * (1.0 - coverage) + f32::from(ink) * coverage;
                *level = mixed.round() as u8;
            }
        }
    }
}

/// The fonts shared by the process. Bundled fonts are loaded on first use, others when needed.
static FONTS: LazyLock<Mutex<Fonts>> = LazyLock::new(|| Mutex::new(Fonts::bundled()));

struct Fonts {
    /// The bundled fonts, then installed fonts in the order of their first use.
    loaded: Vec<FontArc>,
    /// The installed fonts, listed when a text first needs one.
    installed: Option<Installed>,
    /// Characters known to have no glyph in any font, so that they are not searched for again.
    missing: HashSet<char>,
}

impl Fonts {
    fn bundled() -> Self {
        let bundled = [
            epaint_default_fonts::UBUNTU_LIGHT,
            epaint_default_fonts::NOTO_EMOJI_REGULAR,
        ];
        let load = |data| FontRef::try_from_slice(data).expect("the bundled fonts are valid");
        Self {
            loaded: bundled.map(|data| FontArc::new(load(data))).into(),
            installed: None,
            missing: HashSet::new(),
        }
    }

    /// Returns the characters to draw for `text`, each with the index of its font.
    fn choose(&mut self, text: &str) -> Vec<(char, usize)> {
        self.load_for(text);
        let mut chosen = Vec::new();
        let mut unknown = String::new();
        for character in text.chars().filter(|&character| is_visible(character)) {
            match self.font_of(character) {
                Some(index) => {
                    self.push_transliterated(&mut chosen, &mut unknown);
                    chosen.push((character, index));
                }
                None => unknown.push(character),
            }
        }
        self.push_transliterated(&mut chosen, &mut unknown);
        chosen
    }

    /// Transliterates `unknown` to Latin letters, appends them to `chosen` and clears `unknown`.
    fn push_transliterated(&self, chosen: &mut Vec<(char, usize)>, unknown: &mut String) {
        let spelled = deunicode::deunicode_with_tofu(unknown, "?");
        let characters = spelled.trim_end().chars();
        chosen
            .extend(characters.filter_map(|character| Some((character, self.font_of(character)?))));
        unknown.clear();
    }

    fn font_of(&self, character: char) -> Option<usize> {
        if needs_shaping(character) {
            return None;
        }
        let mut fonts = self.loaded.iter();
        fonts.position(|font| has_glyph(font, character))
    }

    /// Loads installed fonts for the characters in `text` that the loaded fonts lack.
    fn load_for(&mut self, text: &str) {
        let lacks = |fonts: &Self| -> Vec<char> {
            let mut characters = text.chars();
            let lacking = characters.by_ref().filter(|&character| {
                is_visible(character)
                    && !needs_shaping(character)
                    && !fonts.missing.contains(&character)
                    && fonts.font_of(character).is_none()
            });
            lacking.collect()
        };
        let mut lacking = lacks(self);
        while let Some(&first) = lacking.first() {
            let installed = self.installed.get_or_insert_with(Installed::list);
            // One font for the whole text looks better than a mixture.
            let font = installed
                .find(&lacking)
                .or_else(|| installed.find(&[first]));
            match font {
                Some(font) => self.loaded.push(font),
                None => drop(self.missing.insert(first)),
            }
            lacking = lacks(self);
        }
    }
}

/// The fonts installed on this machine, with regular sans-serif fonts first.
struct Installed {
    database: Database,
    faces: Vec<fontdb::ID>,
}

impl Installed {
    fn list() -> Self {
        let mut database = Database::new();
        database.load_system_fonts();
        let mut faces: Vec<&FaceInfo> = database.faces().collect();
        faces.sort_by_key(|face| {
            let family = face.families.first().map_or("", |(name, _)| name.as_str());
            (
                face.style != Style::Normal,
                face.monospaced,
                !family.contains("Sans"),
                face.weight.0.abs_diff(400),
                face.stretch,
                // Makes the order the same in each run.
                &face.post_script_name,
            )
        });
        let faces = faces.into_iter().map(|face| face.id).collect();
        Self { database, faces }
    }

    /// Returns the first font with glyphs for all `characters`.
    fn find(&self, characters: &[char]) -> Option<FontArc> {
        self.faces.iter().find_map(|&face| {
            let load = |data: &[u8], index| {
                let font = FontRef::try_from_slice_and_index(data, index).ok()?;
                let has_all = characters
                    .iter()
                    .all(|&character| has_glyph(&font, character));
                has_all.then(|| FontVec::try_from_vec_and_index(data.to_vec(), index).ok())?
            };
            let font = self.database.with_face_data(face, load)??;
            Some(FontArc::new(font))
        })
    }
}

fn has_glyph(font: &impl Font, character: char) -> bool {
    font.glyph_id(character).0 != 0
}

/// Height from descender to ascender, in ems.
fn heights_per_em(font: &impl Font) -> f32 {
    font.height_unscaled() / font.units_per_em().unwrap_or(1000.0)
}

/// Returns false for control characters, U+200B to U+200F (zero-width characters and direction
/// marks), the variation selectors 1 to 16 and the byte order mark.
fn is_visible(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Returns true for characters of scripts that are unreadable as separate glyphs from left to
/// right.
fn needs_shaping(character: char) -> bool {
    matches!(
        character,
        '\u{0590}'..='\u{0dff}' // Hebrew, Arabic, Syriac, the scripts of India and Sri Lanka
        | '\u{0f00}'..='\u{109f}' // Tibetan, Myanmar
        | '\u{1780}'..='\u{18af}' // Khmer, Mongolian
        | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' // presentation forms of Hebrew and Arabic
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the characters drawn for `text` on a machine without installed fonts.
    fn drawn(text: &str) -> String {
        let mut fonts = Fonts::bundled();
        fonts.installed = Some(Installed {
            database: Database::new(),
            faces: Vec::new(),
        });
        let characters = fonts.choose(text).into_iter();
        characters.map(|(character, _)| character).collect()
    }

    #[test]
    fn bundled_fonts_cover_latin_greek_cyrillic_and_emoji() {
        for text in ["Ärger, naïve Çeşme", "μυρμήγκι", "Муравей", "ants 🐜"] {
            assert_eq!(drawn(text), text);
        }
    }

    #[test]
    fn characters_without_a_font_are_transliterated() {
        assert_eq!(drawn("蚂蚁"), "Ma Yi");
        assert_eq!(drawn("3 蜜蜂 (bees)"), "3 Mi Feng (bees)");
        assert_eq!(drawn("चींटी"), "ciiNttii");
        assert_eq!(
            drawn("\u{f8ff}"),
            "?",
            "a private-use character must be drawn as `?`"
        );
    }

    #[test]
    fn invisible_characters_are_dropped() {
        assert_eq!(drawn("a\u{200d}\u{7}b\u{fe0f}"), "ab");
    }

    #[test]
    fn a_line_is_as_wide_as_its_mask_and_has_ink() {
        let line = Line::new("bees", 20.0);
        let mask = line.mask();
        assert_eq!(
            mask.dimensions(),
            (line.width().ceil() as u32, line.height())
        );
        assert!(mask.pixels().any(|pixel| pixel.0[0] > 200));
        assert_eq!(Line::new("", 20.0).width(), 0.0);
    }

    #[test]
    fn a_shortened_text_ends_with_an_ellipsis() {
        let width = Line::new("a long name", 20.0).width();
        assert_eq!(shorten("a long name", 20.0, width), "a long name");
        assert_eq!(shorten("a long name", 20.0, width - 1.0), "a long na…");
        assert_eq!(shorten("a long name", 20.0, 0.0), "…");
    }

    #[test]
    fn pixels_outside_of_the_image_are_clipped() {
        let mut image = RgbImage::new(8, 8);
        Line::new("bees", 20.0).draw(&mut image, -4, -4, Rgb([255; 3]));
        Line::new("bees", 20.0).draw(&mut image, 100, 100, Rgb([255; 3]));
    }
}
