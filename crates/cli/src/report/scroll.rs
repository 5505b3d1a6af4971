//! The frame of tables that can be wider than the page.

use maud::{Markup, html};

/// A table that can be wider than the page: it scrolls, also with the keyboard.
pub fn scroll(label: &str, table: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}
