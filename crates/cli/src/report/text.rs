//! Text from outside in a page: names of classes and files, paths and settings.
//!
//! maud escapes the characters that HTML interprets. This file escapes the characters that reorder
//! or hide text, and limits the length.

use maud::{Markup, html};

use crate::escape::printable;

/// Longest name in characters. Longer names are cut, so that the size of the page has a limit.
const MAX_CHARACTERS: usize = 120;

/// A name without control characters, cut at the end if it is too long.
pub fn plain(name: &str) -> String {
    let name = printable(name);
    match name.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into_owned(),
    }
}

/// A name in its own writing direction: the letters of a right-to-left name do not reorder the text
/// around it.
pub fn name(name: &str) -> Markup {
    html! { bdi { (plain(name)) } }
}

/// A path, which is cut at its beginning if it is too long, because its end tells files apart.
pub fn path(path: &str) -> Markup {
    let path = printable(path);
    let cut = path.chars().count().saturating_sub(MAX_CHARACTERS);
    let end: String = path.chars().skip(cut).collect();
    let start = if cut > 0 { "…" } else { "" };
    html! { bdi.path { (start) (end) } }
}

/// A sentence with commands between backticks.
pub fn sentence(sentence: &str) -> Markup {
    let sentence = printable(sentence);
    html! {
        @for (index, part) in sentence.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_text() {
        let hostile = "<script>alert('1')</script> & \"x\"\u{202e}\u{1b}[2J";
        assert_eq!(
            name(hostile).into_string(),
            r"<bdi>&lt;script&gt;alert('1')&lt;/script&gt; &amp; &quot;x&quot;\u{202e}\x1b[2J</bdi>"
        );
        assert_eq!(name("نملة").into_string(), "<bdi>نملة</bdi>");
    }

    #[test]
    fn long_names_are_cut_at_the_end_and_long_paths_at_the_beginning() {
        let long = "ä".repeat(500);
        assert_eq!(plain(&long).chars().count(), MAX_CHARACTERS + 1);
        let path = path(&format!("{long}/1.png")).into_string();
        assert!(path.starts_with("<bdi class=\"path\">…ä") && path.ends_with("/1.png</bdi>"));
    }
}
